from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from streamguard.demo.legs import (
    DemoError,
    DemoLeg,
    Mark,
    MarkKind,
    Truth,
    load_legs,
    load_samples,
    save_legs,
    to_int16,
)


def test_what_was_saved_is_what_is_loaded(tmp_path: Path) -> None:
    mark = Mark(MarkKind.EVENT, 160, 320, 5)
    samples = np.arange(-500, 500, dtype=np.int16)
    leg = DemoLeg("a/b", Truth.TURNS, "PCMU", samples, "note", (mark,), 1.5)
    save_legs(tmp_path, [leg])
    (loaded,) = load_legs(tmp_path)
    assert (loaded.name, loaded.truth, loaded.codec) == ("a/b", Truth.TURNS, "PCMU")
    assert (loaded.marks, loaded.turn_s, loaded.note) == ((mark,), 1.5, "note")
    np.testing.assert_array_equal(loaded.samples, samples)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.npy", "legs.json"]


@pytest.mark.parametrize("manifest", ["", "{}x", '[{"name": "a"}]', '[{"truth": "alien"}]', "[3]"])
def test_a_manifest_that_we_did_not_write_is_an_error_that_names_it(
    tmp_path: Path, manifest: str
) -> None:
    (tmp_path / "legs.json").write_text(manifest)
    with pytest.raises(DemoError, match=r"legs\.json"):
        load_legs(tmp_path)


def test_a_missing_folder_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="nowhere"):
        load_legs(tmp_path / "nowhere")


def test_a_sound_file_is_resampled_to_telephone_rate(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(48_000), 48_000)
    assert len(load_samples(path)) == 8000


def test_an_array_of_another_type_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.zeros(10))
    with pytest.raises(DemoError, match="int16"):
        load_samples(path)


def test_full_scale_is_clipped_not_wrapped() -> None:
    assert to_int16(np.array([-2.0, -1.0, 0.0, 0.5, 1.0, 2.0])).tolist() == [
        -32768,
        -32768,
        0,
        16384,
        32767,
        32767,
    ]
