"""Structured logging: text or JSON lines on standard error, redacted, one line per record.

Nothing here runs at import; the command line calls :func:`configure_logging` once. Modules log with
``logging.getLogger(__name__)`` as ever; facts for machines go into ``extra={...}``.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final

from streamguard.telemetry.redaction import Redactor, escape_controls

if TYPE_CHECKING:
    from streamguard.telemetry.settings import LogSettings

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_MAX_REASONS: Final = 256


class _Handler(logging.StreamHandler[IO[str]]):
    """A type of our own, so that a second ``configure_logging`` replaces the first one's."""


class TextFormatter(logging.Formatter):
    """``2026-01-31T12:00:00.000Z INFO streamguard.app: message key=value``.

    A traceback follows on lines that begin with ``  | ``, so none of them passes for a record.
    """

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redact = redactor

    def format(self, record: logging.LogRecord) -> str:
        facts = "".join(f" {key}={value}" for key, value in _extra(record).items())
        text = escape_controls(self._redact(record.getMessage() + facts))
        head = f"{_utc(record)} {record.levelname} {record.name}: {text}"
        details = _details(self, record)
        if not details:
            return head
        lines = (escape_controls(line) for line in self._redact(details).split("\n"))
        return "\n".join((head, *(f"  | {line}" for line in lines)))


class JsonFormatter(logging.Formatter):
    """One object per line: ``time, level, logger, message``, extra facts, ``exception``."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redact = redactor

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, object] = {
            "time": _utc(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": escape_controls(self._redact(record.getMessage())),
        }
        for key, value in _extra(record).items():
            if value is None or isinstance(value, bool | int | float):
                fields.setdefault(key, value)
            else:
                # The key stands before the value so that "password" hides what it names.
                hidden = self._redact(f"{key}={value}").partition("=")[2]
                fields.setdefault(key, escape_controls(hidden))
        details = _details(self, record)
        if details:
            fields["exception"] = self._redact(details)
        return json.dumps(fields)


def configure_logging(
    settings: LogSettings, redactor: Redactor, stream: IO[str] | None = None
) -> None:
    """Send everything that is logged in this process to ``stream`` (standard error if None).

    The caller keeps the redactor and registers each secret that it reads. May be called again
    (SIGHUP): it replaces what the last call set up and leaves other handlers alone.
    """
    handler = _Handler(stream or sys.stderr)
    handler.setFormatter(
        JsonFormatter(redactor) if settings.format == "json" else TextFormatter(redactor)
    )
    root = logging.getLogger()
    for old in [h for h in root.handlers if isinstance(h, _Handler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(settings.level.upper())
    # Their debug lines carry whole payloads and every poll; ours say what matters of them.
    for noisy in ("asyncio", "aiohttp", "paho", "mqtt"):
        logging.getLogger(noisy).setLevel(max(logging.INFO, root.level))


@dataclass(slots=True)
class _Repeat:
    logged_at: float
    level: int
    suppressed: int = 0


class RepeatLimiter:
    """One line per reason per interval, with the number of those left out.

    For whatever a peer can provoke: a flood of bad packets is two lines per interval and a metric,
    not a full disk. Holds at most 256 reasons; further ones share one entry.
    """

    def __init__(
        self,
        logger: logging.Logger,
        interval_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._logger = logger
        self._interval_s = interval_s
        self._clock = clock
        self._repeats: dict[str, _Repeat] = {}

    def log(self, level: int, reason: str, message: str, *args: object) -> None:
        """Log now, or count it for the next line of the same reason."""
        now = self._clock()
        if reason not in self._repeats and len(self._repeats) >= _MAX_REASONS:
            reason = "other"
        repeat = self._repeats.get(reason)
        if repeat is None:
            self._repeats[reason] = _Repeat(now, level)
            self._logger.log(level, message, *args)
        elif now - repeat.logged_at < self._interval_s:
            repeat.suppressed += 1
        else:
            text = message % args if args else message
            self._logger.log(level, "%s (and %d more in %.0f s)", text, *_left(repeat, now))
            self._repeats[reason] = _Repeat(now, level)

    def flush(self) -> None:
        """Log what was counted and never told; call it now and then, and at the end."""
        now = self._clock()
        for reason, repeat in list(self._repeats.items()):
            if now - repeat.logged_at < self._interval_s:
                continue
            if repeat.suppressed:
                self._logger.log(repeat.level, "%s: %d more in %.0f s", reason, *_left(repeat, now))
            del self._repeats[reason]


def _left(repeat: _Repeat, now: float) -> tuple[int, float]:
    return repeat.suppressed, now - repeat.logged_at


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


def _details(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    parts = []
    if record.exc_info and record.exc_info[0] is not None:
        parts.append(formatter.formatException(record.exc_info))
    if record.stack_info:
        parts.append(record.stack_info)
    return "\n".join(parts)


def _utc(record: logging.LogRecord) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{seconds}.{int(record.msecs):03d}Z"
