from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from streamguard.telemetry.log import RepeatLimiter, configure_logging
from streamguard.telemetry.redaction import Redactor
from streamguard.telemetry.settings import LogSettings

log = logging.getLogger("streamguard.test")


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    names = ("asyncio", "aiohttp", "paho", "mqtt")
    levels = {name: logging.getLogger(name).level for name in names}
    level, handlers = root.level, root.handlers[:]
    yield
    root.setLevel(level)
    root.handlers[:] = handlers
    for name, value in levels.items():
        logging.getLogger(name).setLevel(value)


def configured(**settings: object) -> tuple[io.StringIO, Redactor]:
    stream, redactor = io.StringIO(), Redactor()
    configure_logging(LogSettings.model_validate(settings), redactor, stream)
    return stream, redactor


def test_text_is_one_line_with_time_level_logger_and_facts() -> None:
    stream, _ = configured()
    log.info("source %s is up", "door", extra={"port": 5004})
    line = stream.getvalue()
    assert line.endswith("Z INFO streamguard.test: source door is up port=5004\n")
    assert line[:10].count("-") == 2


def test_json_is_one_object_per_line() -> None:
    stream, _ = configured(format="json")
    log.warning("late\nby %d", 3, extra={"leg": "x\x1b[2J", "count": 3, "password": "hunter22"})
    (line,) = stream.getvalue().splitlines()
    fields = json.loads(line)
    assert fields["message"] == "late\\nby 3"
    assert fields["level"] == "warning"
    assert fields["leg"] == "x\\x1b[2J"
    assert fields["count"] == 3
    assert fields["password"] == "***"


def test_a_message_cannot_forge_a_second_record() -> None:
    stream, _ = configured()
    log.info("from %s", "x\n2026-01-01T00:00:00.000Z INFO root: all clear\r\x1b[31m")
    assert len(stream.getvalue().splitlines()) == 1
    assert "\x1b" not in stream.getvalue()


@pytest.mark.parametrize("style", ["text", "json"])
def test_secrets_are_hidden_in_arguments_and_tracebacks(style: str) -> None:
    stream, redactor = configured(format=style)
    redactor.register("hunter22")
    try:
        raise ValueError("mqtt://bob:other-pass@host refused hunter22\nINFO forged")
    except ValueError:
        log.exception("cannot connect to %s", "mqtt://bob:x@host")
    text = stream.getvalue()
    assert "hunter22" not in text
    assert "other-pass" not in text
    assert "bob" not in text
    assert "ValueError" in text
    assert all(line[:4] in ("  | ", text[:4]) for line in text.splitlines())


def test_the_level_is_obeyed() -> None:
    stream, _ = configured(level="warning")
    log.info("hidden")
    log.warning("seen")
    assert "hidden" not in stream.getvalue()
    assert "seen" in stream.getvalue()


def test_configuring_again_replaces_the_first_handler_only() -> None:
    foreign = logging.NullHandler()
    logging.getLogger().addHandler(foreign)
    first, _ = configured()
    second, _ = configured()
    log.info("once")
    assert first.getvalue() == ""
    assert second.getvalue().count("once") == 1
    assert foreign in logging.getLogger().handlers


class Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture
def records() -> Iterator[Records]:
    handler = Records()
    log.addHandler(handler)
    level = log.level
    log.setLevel(logging.INFO)
    yield handler
    log.setLevel(level)
    log.removeHandler(handler)


def test_a_repeated_problem_is_one_line_per_interval_with_a_count(records: Records) -> None:
    now = 0.0
    limiter = RepeatLimiter(log, interval_s=10, clock=lambda: now)
    for _ in range(100):
        limiter.log(logging.WARNING, "late", "late packet from %s", "door")
    limiter.log(logging.WARNING, "short", "100% short")
    now = 10.0
    limiter.log(logging.WARNING, "late", "late packet from %s", "desk")
    assert records.lines == [
        "late packet from door",
        "100% short",
        "late packet from desk (and 99 more in 10 s)",
    ]


def test_what_was_counted_is_told_at_the_end(records: Records) -> None:
    now = 0.0
    limiter = RepeatLimiter(log, interval_s=10, clock=lambda: now)
    limiter.log(logging.WARNING, "late", "late")
    limiter.log(logging.WARNING, "late", "late")
    limiter.flush()
    assert records.lines == ["late"]
    now = 12.0
    limiter.flush()
    limiter.flush()
    assert records.lines == ["late", "late: 1 more in 12 s"]


def test_endless_reasons_take_bounded_memory_and_lines(records: Records) -> None:
    limiter = RepeatLimiter(log, clock=lambda: 0.0)
    for index in range(5000):
        limiter.log(logging.WARNING, f"reason {index}", "x")
    assert len(records.lines) == 257
    assert len(limiter._repeats) == 257
