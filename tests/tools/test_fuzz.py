"""The fuzzing command; what it fuzzes with is tested in tests/fuzz."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz import seeds, targets
from tools import fuzz


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(fuzz, "BROKEN", tmp_path)
    return tmp_path


def run_on(target: targets.Target, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setitem(targets.TARGETS, "rtp", target)
    monkeypatch.setattr(seeds, "seeds", lambda name: [b"good"])
    return fuzz.main(["--blind", "--seconds", "0.5", "--seed", "1", "--target", "rtp"])


def test_what_breaks_a_parser_is_kept_and_told(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def parse(data: bytes) -> None:
        if data != b"good":
            raise IndexError("planted")

    assert run_on(targets.Target(parse, ("rtp",)), monkeypatch) == 1
    (kept,) = (elsewhere / "rtp").iterdir()
    with pytest.raises(IndexError, match="planted"):
        parse(kept.read_bytes())
    said = capsys.readouterr().out
    assert said.startswith("fuzzing with mutations that are blind to coverage; seed 1\n")
    assert "1 inputs broke something" in said


def test_what_a_parser_declares_is_no_defect(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target = targets.Target(lambda data: int(data), ("rtp",), ValueError)
    assert run_on(target, monkeypatch) == 0
    assert list(elsewhere.iterdir()) == []
    assert "0 inputs broke something" in capsys.readouterr().out
