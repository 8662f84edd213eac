"""``streamguard analyze``: score audio files, as a table, as JSON, as a picture."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import soundfile
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from streamguard.analysis import Analyst, analyst
from streamguard.commands.plot import draw, need_matplotlib, plot_paths
from streamguard.commands.report import FileReport, report_json
from streamguard.commands.tables import print_reports
from streamguard.config import Config, load_config
from streamguard.console import complain, printable, say_json, terminal
from streamguard.errors import AudioFileError
from streamguard.sources.settings import FileSettings


def analyze(
    files: Sequence[str],
    *,
    config: Path | None,
    as_json: bool,
    plot: Path | None,
    explain: bool,
) -> int:
    """Exit code 0, or 1 when a file could not be analysed; the others are analysed all the same.

    Raises ConfigError, BundleError, EngineError, MissingExtraError.
    """
    if plot is not None:
        need_matplotlib()
    settings = load_config(config) if config else default_config()
    return asyncio.run(_Run(files, as_json, plot).run(settings, explain=explain))


def default_config() -> Config:
    """What `analyze` uses without a configuration: all defaults."""
    return Config(sources=(FileSettings(name="analyze", paths=(Path("-"),)),))


class _Run:
    """One call of the verb."""

    def __init__(self, files: Sequence[str], as_json: bool, plot: Path | None) -> None:
        self._files = files
        self._as_json = as_json
        self._pictures = plot_paths(plot, files) if plot else [None] * len(files)
        self._failed = False
        self._reports: list[FileReport] = []

    async def run(self, config: Config, *, explain: bool) -> int:
        async with analyst(config) as models:
            with _Bar(len(self._files), shown=not (self._as_json and Console().is_terminal)) as bar:
                for file, picture in zip(self._files, self._pictures, strict=True):
                    await self._one(models, file, picture, bar)
        if self._reports:
            print_reports(terminal(), self._reports, explain=explain)
        return 1 if self._failed else 0

    async def _one(self, models: Analyst, file: str, picture: Path | None, bar: _Bar) -> None:
        bar.begin(file)
        try:
            found = await models.analyse(file, bar.played, envelope=picture is not None)
        except AudioFileError as err:
            self._complain(file, err.reason)
            if self._as_json:
                say_json({"file": file, "error": err.reason})
            return
        report = found.report
        if report.error is not None:
            self._complain(file, report.error)
        if self._as_json:
            judging = models.judging
            say_json(report_json(report, judging.detector, judging.attribution))
        else:
            self._reports.append(report)
        if picture is not None:
            await asyncio.to_thread(draw, report, found.envelope, found.rate_hz, picture)

    def _complain(self, file: str, reason: str) -> None:
        self._failed = True
        if not self._as_json:
            complain(f"streamguard: {printable(file)}: {reason}")


class _Bar:
    """Progress on standard error, where that is a terminal (and JSON does not go to it, too)."""

    def __init__(self, files: int, *, shown: bool) -> None:
        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:.0f} of {task.total:.0f} {task.fields[unit]}"),
            TimeElapsedColumn(),
            console=console,
            disable=not (shown and console.is_terminal),
            transient=True,
            redirect_stdout=False,  # else rich would send our JSON where the bar is
        )
        self._files = self._bar.add_task("files", total=files, unit="files") if files > 1 else None
        self._file: TaskID | None = None

    def __enter__(self) -> _Bar:
        self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.stop()

    def begin(self, file: str) -> None:
        """The next file; the one before is finished."""
        if self._bar.disable:
            return
        if self._file is not None:
            self._bar.remove_task(self._file)
            if self._files is not None:
                self._bar.advance(self._files)
        name = printable(Path(file).name)
        self._file = self._bar.add_task(
            name if len(name) <= 32 else f"{name[:29]}...", total=_length_s(file), unit="s"
        )

    def played(self, seconds: float) -> None:
        if self._file is not None:
            self._bar.update(self._file, completed=seconds)


def _length_s(file: str) -> float:
    """As the header says; 0 where there is none, which is reported when the file is opened."""
    try:
        return float(soundfile.info(os.fsencode(file)).duration) if Path(file).is_file() else 0.0
    except (soundfile.LibsndfileError, OSError, ValueError, TypeError):
        return 0.0
