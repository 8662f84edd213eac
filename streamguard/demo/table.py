"""What the demonstration shows while it runs: a live table, or plain lines where nobody looks."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from streamguard.telemetry.redaction import escape_controls
from streamguard.verdict.scores import State

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import Console, RenderableType
    from rich.live import Live
    from rich.text import Text

STATE_STYLE: Final = {
    State.UNKNOWN: "dim",
    State.BONAFIDE: "bold green",
    State.SUSPECT: "bold yellow",
    State.SPOOF: "bold red",
}
_BAR_CELLS: Final = 8
_BAR_LOWEST_DBFS: Final = -70.0
_ALERTS_SHOWN: Final = 8
PLAIN_EVERY_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class LegRow:
    """A snapshot of one leg."""

    name: str
    truth: str
    level_dbfs: float
    """-120 for silence."""
    net_speech_s: float
    windows_scored: int
    rejected: Mapping[str, int]
    """Windows by reason of rejection."""
    llr: float | None
    """Of the leg; None before the first scored window."""
    state: State
    attribution: str
    """In words; empty while there is none."""


class LiveView:
    """Shows rows and alerts while the ``with`` lasts: a table on a terminal, else lines.

    Plain lines come when a leg's state changes and every five seconds. Not thread-safe.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._live: Live | None = None
        self._rows: tuple[LegRow, ...] = ()
        self._alerts: deque[str] = deque(maxlen=_ALERTS_SHOWN)
        self._states: dict[str, State] = {}
        self._printed_at: float | None = None

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            from rich.live import Live

            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def update(self, rows: Sequence[LegRow]) -> None:
        self._rows = tuple(rows)
        if self._live is not None:
            self._live.update(self._picture(), refresh=True)
            return
        now = self._clock()
        due = self._printed_at is None or now - self._printed_at >= PLAIN_EVERY_S
        for row in rows:
            if due or self._states.get(row.name) is not row.state:
                self._console.print(plain(row), markup=False, highlight=False, soft_wrap=True)
            self._states[row.name] = row.state
        if due:
            self._printed_at = now

    def alert(self, line: str) -> None:
        """An alert that came back from the broker; what it says is not trusted."""
        line = escape_controls(line)
        if self._live is not None:
            self._alerts.append(line)
            self._live.update(self._picture(), refresh=True)
        else:
            self._console.print(f"alert: {line}", markup=False, highlight=False, soft_wrap=True)

    def _picture(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        alerts = [
            Text(line, style="red", overflow="ellipsis", no_wrap=True) for line in self._alerts
        ]
        return Group(table(self._rows), *alerts)


def table(rows: Sequence[LegRow]) -> RenderableType:
    """The live table; readable from 80 columns on."""
    from rich.table import Table
    from rich.text import Text

    result = Table(title="streamguard demo", title_justify="left", box=None, padding=(0, 2, 0, 0))
    result.add_column("leg\n(truth)", max_width=13)
    result.add_column("level\ndBFS", no_wrap=True)
    for heading in ("speech\ns", "windows\nscored", "LLR\n"):
        result.add_column(heading, justify="right", no_wrap=True)
    result.add_column("state\n", no_wrap=True)
    result.add_column("rejected\nattribution", ratio=1)
    for row in rows:
        details = Text(_rejected(row.rejected) or "–", style="dim")
        details.append(f"\n{row.attribution}", style="not dim")
        result.add_row(
            Text(row.name, style="bold").append(f"\n({row.truth})", style="not bold dim"),
            _level(row.level_dbfs),
            f"{row.net_speech_s:.1f}",
            str(row.windows_scored),
            _llr(row.llr),
            Text(row.state.value, style=STATE_STYLE[row.state]),
            details,
        )
    return result


def plain(row: LegRow) -> str:
    """The same on one line."""
    return (
        f"{row.name} ({row.truth}): {row.state.value}, LLR {_llr(row.llr)}, "
        f"{row.net_speech_s:.1f} s speech, {row.level_dbfs:.0f} dBFS, "
        f"{row.windows_scored} windows scored, rejected: {_rejected(row.rejected) or 'none'}"
        + (f", {row.attribution}" if row.attribution else "")
    )


def _level(dbfs: float) -> Text:
    from rich.text import Text

    share = (dbfs - _BAR_LOWEST_DBFS) / -_BAR_LOWEST_DBFS
    cells = round(min(1.0, max(0.0, share)) * _BAR_CELLS)
    style = "red" if dbfs > -6 else "green"
    bar = Text("█" * cells, style=style)
    bar.append("·" * (_BAR_CELLS - cells), style="dim")
    bar.append(f" {dbfs:4.0f}")
    return bar


def _rejected(reasons: Mapping[str, int]) -> str:
    most_first = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{reason} {count}" for reason, count in most_first if count)


def _llr(value: float | None) -> str:
    return "–" if value is None else f"{value:+.2f}"
