"""A collection travels in one file, and what is no shard is refused."""

from __future__ import annotations

import csv
import hashlib
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.shard import MAGIC, ShardError, parse_shard, unpack_shard, write_shard


def _shard(path: Path, *names: str) -> list[bytes]:
    files = [f"content of {name}".encode() for name in names]
    rows = [
        {"path": name, "label": "spoof", "sha256": hashlib.sha256(file).hexdigest()}
        for name, file in zip(names, files, strict=True)
    ]
    write_shard(path, rows, files)
    return files


def test_unpacking_gives_the_manifest_and_every_file(tmp_path: Path) -> None:
    shard = tmp_path / "small.shard"
    files = _shard(shard, "core/a.ogg", "extra/deep/b.ogg")
    folder = unpack_shard(shard, tmp_path / "cache")
    assert (folder / "core/a.ogg").read_bytes() == files[0]
    assert (folder / "extra/deep/b.ogg").read_bytes() == files[1]
    with (folder / "manifest.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["path"] for row in rows] == ["core/a.ogg", "extra/deep/b.ogg"]
    assert rows[0]["label"] == "spoof"


def test_a_shard_is_unpacked_once_and_a_changed_one_again(tmp_path: Path) -> None:
    shard, cache = tmp_path / "small.shard", tmp_path / "cache"
    _shard(shard, "a.ogg")
    first = unpack_shard(shard, cache)
    (first / "seen").touch()
    assert unpack_shard(shard, cache) == first
    assert (first / "seen").exists()
    _shard(shard, "a.ogg", "b.ogg")
    assert unpack_shard(shard, cache) != first


@pytest.mark.parametrize("name", ["/etc/passwd", "../outside.ogg", "core/../../outside.ogg"])
def test_no_clip_leaves_the_folder(tmp_path: Path, name: str) -> None:
    shard = tmp_path / "bad.shard"
    _shard(shard, name)
    with pytest.raises(ShardError, match="manifest:2: path"):
        unpack_shard(shard, tmp_path / "cache")
    assert not (tmp_path / "outside.ogg").exists()


def test_a_damaged_clip_is_named(tmp_path: Path) -> None:
    shard = tmp_path / "bad.shard"
    write_shard(shard, [{"path": "a.ogg", "sha256": "0" * 64}], [b"something"])
    with pytest.raises(ShardError, match="manifest:2: sha256: not that of a"):
        unpack_shard(shard, tmp_path / "cache")


def test_a_manifest_for_other_clips_is_refused(tmp_path: Path) -> None:
    shard = tmp_path / "bad.shard"
    write_shard(shard, [{"path": "a.ogg", "sha256": "x"}], [b"one", b"two"])
    with pytest.raises(ShardError, match="1 rows for 2 clips"):
        unpack_shard(shard, tmp_path / "cache")


def _sealed(body: bytes) -> bytes:
    return MAGIC + hashlib.sha256(body).digest() + body


def _lengths(manifest: int, clips: int) -> bytes:
    return np.array([manifest, clips], "<u8").tobytes()


def _ends(*values: int) -> bytes:
    return np.array(values, "<u8").tobytes()


TABLE = zlib.compress(b"path,sha256\n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "does not begin with"),
        (b"streamguard.shard/9\n", "does not begin with"),
        (MAGIC + bytes(40), "its sha256 is another one"),
        (_sealed(b"short"), "too short"),
        (_sealed(_lengths(99, 0)), "do not fit"),
        (_sealed(_lengths(0, 2**61)), "do not fit"),
        (_sealed(_lengths(3, 0) + b"abc"), "manifest: "),
        (_sealed(_lengths(4, 0) + TABLE[:4]), "manifest: cut off"),
        (_sealed(_lengths(len(TABLE), 2) + TABLE + _ends(3, 2) + b"ab"), "must rise"),
        (_sealed(_lengths(len(TABLE), 1) + TABLE + _ends(9) + b"ab"), "must rise"),
        (_sealed(_lengths(len(TABLE), 0) + TABLE + b"ab"), "must rise"),
    ],
)
def test_what_is_no_shard_is_refused_with_a_reason(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_shard(content)


def test_the_error_names_the_file(tmp_path: Path) -> None:
    shard = tmp_path / "bad.shard"
    shard.write_bytes(MAGIC)
    with pytest.raises(ShardError, match=r"bad\.shard: cut off or damaged"):
        unpack_shard(shard, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@given(body=st.binary(max_size=200))
def test_any_bytes_are_parsed_or_refused(body: bytes) -> None:
    try:
        parse_shard(_sealed(body))
    except ValueError:
        return


@given(body=st.binary(max_size=64), clips=st.integers(0, 8), length=st.integers(0, 40))
def test_any_lengths_are_parsed_or_refused(body: bytes, clips: int, length: int) -> None:
    try:
        _, files = parse_shard(_sealed(_lengths(length, clips) + body))
    except ValueError:
        return
    assert len(files) == clips
