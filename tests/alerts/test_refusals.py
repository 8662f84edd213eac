"""What the publisher does with an alert that the broker refuses, and what it counts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from streamguard.alerts import publisher as publisher_module
from streamguard.alerts.mqtt import Incoming, Outgoing, PublishRefusedError, Version
from streamguard.alerts.publisher import Publisher
from streamguard.clock import SystemClock
from tests.alerts.builders import TOPICS, desk
from tests.alerts.harness import call, settings, until

_TOO_LARGE = 149
_NOT_AUTHORISED = 135


class RefusingLink:
    """Stands for a connection to a broker that refuses alerts in which ``word`` occurs."""

    version = Version.V5

    def __init__(self, word: bytes, code: int) -> None:
        self._word = word
        self._code = code
        self.taken: list[str] = []

    async def connect(self, *_: Any) -> RefusingLink:
        return self

    async def publish(self, message: Outgoing, timeout_s: float | None = None) -> bool:
        if message.topic.endswith("/alert"):
            if self._word in message.payload:
                raise PublishRefusedError(message.topic, "no", self._code)
            self.taken.append(message.topic)
        return True

    async def subscribe(self, *topics: str) -> None:
        pass

    async def messages(self) -> AsyncIterator[Incoming]:
        await asyncio.get_running_loop().create_future()  # until cancelled
        yield Incoming("", b"", retained=False)

    async def drop(self) -> None:
        pass

    async def close(self) -> None:
        pass


async def test_an_alert_that_can_never_be_taken_is_given_up_and_counted_by_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = RefusingLink(b'"kind":"updated"', _TOO_LARGE)
    monkeypatch.setattr(publisher_module, "Link", link)
    seconds: list[float] = []
    alerts = desk(tmp_path)
    await alerts.start()
    publisher = Publisher(
        settings(1), TOPICS, alerts, SystemClock(), on_publish_seconds=seconds.append
    )
    task = asyncio.create_task(publisher.run(), name="publisher")
    await call(alerts, "leg1")
    await until(lambda: publisher.stats().published.total() == 2)
    assert publisher.stats().published == {"raised": 1, "cleared": 1}
    assert publisher.stats().refused == {"updated": 1}
    assert len(seconds) == 2, "what was refused has no latency"
    publisher.stop()
    await task
    assert alerts.stats().outbox.depth == 0
    await alerts.close()


async def test_an_alert_that_we_may_not_publish_yet_waits_and_is_not_counted_as_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher_module, "Link", RefusingLink(b"", _NOT_AUTHORISED))
    alerts = desk(tmp_path)
    await alerts.start()
    publisher = Publisher(settings(1), TOPICS, alerts, SystemClock(), jitter=lambda _: 0.01)
    task = asyncio.create_task(publisher.run(), name="publisher")
    await call(alerts, "leg1")
    await until(lambda: publisher.state.attempts >= 2)
    assert publisher.stats().refused == {}
    assert alerts.stats().outbox.depth == 3
    publisher.stop()
    await task
    await alerts.close()
