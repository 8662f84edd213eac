from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from streamguard.demo.table import LegRow, LiveView, plain, table
from streamguard.verdict.scores import State

ROW = LegRow(
    name="synthetic",
    truth="synthetic",
    level_dbfs=-26.0,
    net_speech_s=4.25,
    windows_scored=7,
    rejected={"silence": 2, "tone": 5, "music": 0},
    llr=3.456,
    state=State.SPOOF,
    attribution="tts: tacotron2",
)


def test_a_row_on_one_line_says_everything() -> None:
    assert plain(ROW) == (
        "synthetic (synthetic): SPOOF, LLR +3.46, 4.2 s speech, -26 dBFS, 7 windows scored, "
        "rejected: tone 5, silence 2, tts: tacotron2"
    )


@pytest.mark.parametrize("width", [80, 160])
def test_the_table_shows_everything_with_the_state_in_colour(width: int) -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=width, color_system="standard")
    quiet = replace(ROW, name="quiet", level_dbfs=-120.0, llr=None, state=State.UNKNOWN)
    console.print(table([ROW, quiet]))
    text = stream.getvalue()
    for part in ("synthetic", " -26", "4.2", "tone 5", "silence 2", "+3.46", "tts: tacotron2"):
        assert part in text
    assert "\x1b[1;31mSPOOF" in text
    assert "-120" in text
    assert "…" not in text


def test_hostile_names_are_shown_and_not_interpreted() -> None:
    stream = io.StringIO()
    Console(file=stream, width=160).print(
        table([replace(ROW, attribution="[red]x[/]", name="[bold]")])
    )
    text = stream.getvalue()
    assert "[red]x[/]" in text
    assert "[bold]" in text


def test_without_a_terminal_lines_come_on_change_and_every_five_seconds() -> None:
    now = 0.0
    stream = io.StringIO()
    with LiveView(Console(file=stream, width=40), clock=lambda: now) as view:
        view.update([ROW])
        view.update([ROW])
        view.update([replace(ROW, state=State.SUSPECT)])
        now = 5.0
        view.update([replace(ROW, state=State.SUSPECT)])
        view.alert("raised [x]\x1b[2J")
    lines = stream.getvalue().splitlines()
    assert [line.split(":")[1].split(",")[0].strip() for line in lines[:3]] == [
        "SPOOF",
        "SUSPECT",
        "SUSPECT",
    ]
    assert lines[3] == "alert: raised [x]\\x1b[2J"
    assert len(lines) == 4


def test_on_a_terminal_the_last_alerts_stand_below_the_table() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=120, height=40)
    with LiveView(console) as view:
        view.update([ROW])
        for index in range(20):
            view.alert(f"alert number {index} ")
    last = stream.getvalue().rsplit("streamguard demo", 1)[1]
    assert "alert number 19 " in last
    assert "alert number 12 " in last
    assert "alert number 11 " not in last
