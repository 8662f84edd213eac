"""What `analyze` found, in words: one table over all files, and one of every window."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from streamguard.commands.report import FileReport, LegReport
from streamguard.console import printable
from streamguard.verdict.scores import Attribution, Label, Rejection

STATE_STYLE = {"UNKNOWN": "dim", "BONAFIDE": "green", "SUSPECT": "yellow", "SPOOF": "bold red"}


def print_reports(console: Console, reports: Sequence[FileReport], *, explain: bool) -> None:
    """Table, then what else is to be said of a file, then its windows if asked for."""
    console.print(_summary(reports))
    for report in reports:
        for line in _remarks(report):
            # The name is not markup, whatever brackets it has.
            text = Text(f"{_name(report.file)}: {line}", style="dim")
            console.print(text)
        if explain:
            for leg in report.legs:
                console.print()
                console.print(_windows(report, leg))


def _name(file: str) -> str:
    return printable(file.rsplit("/", 1)[-1] or file)


def _leg_name(report: FileReport, leg: LegReport) -> str:
    if leg.call is not None:
        return f"{_name(report.file)} [{_who(leg)}]"
    return _name(report.file) + (f" [{leg.index}]" if len(report.legs) > 1 else "")


def _who(leg: LegReport) -> str:
    """Of a capture."""
    return f"call {leg.call} {leg.role}"


def _summary(reports: Sequence[FileReport]) -> Table:
    """At most 80 columns wide, but for long file names, which are folded."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("file", overflow="fold")
    for name in ("length", "speech"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("band", "verdict"):
        table.add_column(name, no_wrap=True)
    for name in ("LLR", "p(spoof)", "windows"):
        table.add_column(name, justify="right", no_wrap=True)
    for report in reports:
        for leg in report.legs:
            verdict = leg.verdict
            state = verdict.state.value
            table.add_row(
                Text(_leg_name(report, leg)),
                f"{report.duration_s:.1f} s",
                f"{verdict.net_speech_s:.1f} s",
                leg.channel,
                Text(state, style=STATE_STYLE[state]),
                f"{verdict.llr:+.2f}",
                f"{verdict.p_spoof:.3f}",
                f"{verdict.windows_scored} of {len(leg.windows)}",
            )
    return table


def _remarks(report: FileReport) -> Iterator[str]:
    if report.error is not None:
        yield f"scored in part: {report.error}"
    yield from report.notes
    for leg in report.legs:
        where = f"channel {leg.index}: " if len(report.legs) > 1 else ""
        if leg.call is not None:
            where = f"{_who(leg)}: "
        said = _likely(leg.verdict.attribution)
        if said:
            yield f"{where}{said}"
        rejected = leg.verdict.windows_rejected
        if rejected:
            reasons = ", ".join(f"{n} {r.value}" for r, n in sorted(rejected.items()))
            yield f"{where}windows that abstain: {reasons}"


def _likely(attribution: Attribution) -> str:
    found = [
        f"{kind} {_outcome(outcome)}"
        for kind, outcome in (
            ("technology", attribution.technology),
            ("generator", attribution.generator),
        )
        if isinstance(outcome, Label)
    ]
    return f"likely {', '.join(found)}" if found else ""


def _windows(report: FileReport, leg: LegReport) -> Table:
    title = Text(f"windows of {_leg_name(report, leg)}", style="bold")
    table = Table(box=None, header_style="bold", title=title, title_justify="left", pad_edge=False)
    for name in ("seconds", "LLR", "new hops"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("rejected", "technology", "generator"):
        table.add_column(name)
    for window in leg.windows:
        attribution = window.attribution or Attribution()
        table.add_row(
            f"{window.start_s:.1f} - {window.end_s:.1f}",
            "-" if window.llr is None else f"{window.llr:+.2f}",
            str(window.new_hops),
            window.rejected.value if window.rejected else "",
            _outcome(attribution.technology),
            _outcome(attribution.generator),
        )
    return table


def _outcome(outcome: Label | Rejection | None) -> str:
    match outcome:
        case Label(label, p_value):
            return f"{label} (p {p_value:.2f})"
        case None:
            return ""
        case _:
            return f"rejected: {outcome.value}"
