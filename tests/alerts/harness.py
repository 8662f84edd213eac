"""A publisher under test, its peers, and how to wait for things."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from streamguard.alerts.desk import AlertDesk
from streamguard.alerts.publisher import Publisher
from streamguard.alerts.settings import MqttSettings
from streamguard.clock import SystemClock
from streamguard.events import EndReason
from tests.alerts.broker import (
    Broker,
    Received,
    Subscriber,
    need,
)
from tests.alerts.builders import TOPICS, context, verdict

to_thread = asyncio.to_thread


def settings(port: int, **changes: Any) -> MqttSettings:
    base = {"host": "127.0.0.1", "port": port, "timeout_s": 3.0, "will_delay_s": 0}
    return MqttSettings.model_validate(base | changes)


@asynccontextmanager
async def publishing(
    alerts: AlertDesk,
    mqtt: MqttSettings,
    jitter: Callable[[float], float] = lambda upper: 0.05,
) -> AsyncIterator[Publisher]:
    publisher = Publisher(mqtt, TOPICS, alerts, SystemClock(), jitter=jitter)
    task = asyncio.create_task(publisher.run(), name="publisher")
    try:
        yield publisher
    finally:
        publisher.stop(drain_s=3.0)
        await task
        await alerts.close()


@asynccontextmanager
async def reading(
    port: int, topic: str = "#", options: tuple[str, ...] = ()
) -> AsyncIterator[Subscriber]:
    reader = Subscriber(port, topic, options)
    await to_thread(reader.start)
    try:
        yield reader
    finally:
        await to_thread(reader.stop)


@asynccontextmanager
async def running(folder: Path, **options: Any) -> AsyncIterator[Broker]:
    broker = await to_thread(lambda: Broker(folder / "broker", **options))
    await to_thread(broker.start)
    try:
        yield broker
    finally:
        await to_thread(broker.stop)


async def until(wanted: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not wanted():  # noqa: ASYNC110 (what is waited for has no event)
            await asyncio.sleep(0.01)


async def call(alerts: AlertDesk, leg: str) -> None:
    """A call that raises, updates and clears."""
    await alerts.verdict(context(leg), verdict(leg=leg, offset_s=3.0))
    await alerts.verdict(context(leg), verdict(leg=leg, offset_s=9.0, llr=9.0))
    await alerts.leg_ended(leg, EndReason.HANGUP)


def availability(messages: list[Received]) -> list[str]:
    return [m.payload for m in messages if m.topic == TOPICS.availability]


async def command(broker: Broker, topic: str, body: object, *options: str) -> None:
    """Publish as an operator's program would."""
    await to_thread(need, "mosquitto_pub")
    message = json.dumps(body)
    args = ("mosquitto_pub", "-p", str(broker.port), "-q", "1", "-t", topic, "-m", message)
    await to_thread(subprocess.run, args + options, check=True)


def result_of(reader: Subscriber, request_id: str) -> Any:
    def answers(messages: list[Received]) -> list[Any]:
        results = [m.json for m in messages if m.topic == TOPICS.result]
        return [r for r in results if r.get("request_id") == request_id]

    return answers(reader.wait_for(lambda got: bool(answers(got))))[0]
