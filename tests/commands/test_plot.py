"""What a picture is made of; that it looks well is for people to see."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamguard.commands.plot import MAX_COLUMNS, Envelope, draw, merged, plot_paths
from streamguard.commands.report import FileReport, LegReport
from streamguard.verdict.scores import Channel, Rejection, State, Verdict, WindowScore


@settings(max_examples=30)
@given(lengths=st.lists(st.integers(0, 5000), max_size=10))
def test_the_envelope_is_bounded_and_holds_the_extremes(lengths: list[int]) -> None:
    rng = np.random.default_rng(sum(lengths))
    parts = [rng.uniform(-1, 1, n).astype(np.float32) for n in lengths]
    envelope = Envelope(block=1)
    for part in parts:
        envelope.add(part)
    seconds, low, high = envelope.columns(8000)
    assert len(seconds) == len(low) == len(high) < 2 * MAX_COLUMNS
    whole = np.concatenate([*parts, np.zeros(0, np.float32)])
    step = round(seconds[1] * 8000) if len(seconds) > 1 else 1
    for i, (a, b) in enumerate(zip(low, high, strict=True)):
        column = whole[i * step : (i + 1) * step]
        assert (a, b) == (column.min(), column.max())


def test_the_envelope_of_ten_hours_is_as_small_as_that_of_a_minute() -> None:
    envelope = Envelope()
    block = np.zeros(80_000, np.float32)
    for _ in range(3600):
        envelope.add(block)
    seconds, _, _ = envelope.columns(8000)
    assert len(seconds) < 2 * MAX_COLUMNS
    assert seconds[-1] == pytest.approx(36_000, rel=0.01)


def test_neighbours_that_say_the_same_are_one_span() -> None:
    spans = [(0.0, 1.0, "a"), (1.0, 2.0, "a"), (2.0, 3.0, "b"), (4.0, 5.0, "b")]
    assert merged(spans) == [(0.0, 2.0, "a"), (2.0, 3.0, "b"), (4.0, 5.0, "b")]


def test_one_file_has_the_picture_of_that_name_and_several_have_their_own() -> None:
    assert plot_paths(Path("x/p.svg"), ["a.wav"]) == [Path("x/p.svg")]
    assert plot_paths(Path("x/p.svg"), ["1/a.wav", "2/a.wav", "b c\n.wav"]) == [
        Path("x/p-a.svg"),
        Path("x/p-a-2.svg"),
        Path("x/p-b_c_.svg"),
    ]


def _window(index: int, llr: float | None, rejected: Rejection | None) -> WindowScore:
    end_s = 0.5 * (index + 1)
    return WindowScore(
        "leg", 0, index, end_s - 3, end_s, llr, llr, rejected, 1, 6, 0.5, Channel.WIDE
    )


@pytest.mark.parametrize("windows", [0, 1, 20, 400])
def test_any_number_of_windows_is_drawn(windows: int, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    reasons = [None, *Rejection]
    scores = [
        _window(i + 5, None if i % 3 == 1 else (i % 7) - 3.0, reasons[i // 2 % len(reasons)])
        for i in range(windows)
    ]
    states = list(State)
    course = tuple((w.end_s, states[i // 5 % 4], i / 10) for i, w in enumerate(scores))
    verdict = Verdict("leg", State.SUSPECT, 1.0, 0.1, 3.0, windows)
    leg = LegReport(0, verdict, tuple(scores), "wide", course)
    envelope = Envelope()
    envelope.add(np.zeros(100, np.float32))
    path = tmp_path / "p.png"
    draw(FileReport("x.wav", 0.5 * (windows + 6), (leg,)), envelope, 8000, path)
    assert path.stat().st_size > 5000
