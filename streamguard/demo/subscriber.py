"""A separate MQTT client that reads the alerts back, in a process of its own.

``python -m streamguard.demo.subscriber --port 18830`` writes a JSON line per message with the time
at which it came, until its standard input ends. It shares nothing with the publisher but MQTT.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from streamguard.demo.child import Child, end_of_input, tell

ALERTS: Final = "streamguard/+/source/+/alert"
_READY_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class Received:
    """One message as the subscriber saw it."""

    topic: str
    payload: Any
    """Parsed JSON, or the text where it is none."""
    retained: bool
    monotonic: float
    """CLOCK_MONOTONIC at its arrival: on Linux the same clock in every process of the machine."""
    utc: float


class Subscriber:
    """The parent's view of the subscriber's process."""

    def __init__(self, child: Child) -> None:
        self._child = child

    async def messages(self) -> AsyncIterator[Received]:
        """Every message until the subscriber ends; for one reader."""
        async for line in self._child.lines():
            yield Received(
                line["topic"], line["payload"], line["retained"], line["monotonic"], line["utc"]
            )


@asynccontextmanager
async def running_subscriber(
    port: int, topic: str = ALERTS, host: str = "127.0.0.1"
) -> AsyncIterator[Subscriber]:
    """A subscriber that lives as long as the block; the subscription stands when it begins."""
    child = await Child.start(
        "streamguard.demo.subscriber", "--host", host, "--port", str(port), "--topic", topic
    )
    try:
        await child.expect("subscribed", _READY_S)
        yield Subscriber(child)
    finally:
        await child.stop()


async def listen(host: str, port: int, topic: str) -> None:
    """Write each message as a line until standard input ends."""
    import aiomqtt

    async with aiomqtt.Client(host, port, protocol=aiomqtt.ProtocolVersion.V311) as client:
        await client.subscribe(topic, qos=1)
        tell("subscribed", topic=topic)
        async for message in client.messages:
            tell(
                "message",
                monotonic=time.monotonic(),
                utc=time.time(),
                topic=str(message.topic),
                retained=bool(message.retain),
                payload=_parsed(message.payload),
            )


async def listen_until_end_of_input(host: str, port: int, topic: str) -> None:
    listening = asyncio.create_task(listen(host, port, topic), name="subscriber")
    ending = asyncio.create_task(end_of_input(), name="end of input")
    done, pending = await asyncio.wait({listening, ending}, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    for task in done:
        task.result()


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when the parent ended it, 1 when the broker did."""
    import aiomqtt

    parser = argparse.ArgumentParser(prog="python -m streamguard.demo.subscriber")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--topic", default=ALERTS)
    options = parser.parse_args(arguments)
    try:
        asyncio.run(listen_until_end_of_input(options.host, options.port, options.topic))
    except aiomqtt.MqttError as err:
        sys.stderr.write(f"broker {options.host}:{options.port}: {err}\n")
        return 1
    return 0


def _parsed(payload: object) -> Any:
    if not isinstance(payload, bytes | bytearray):
        return str(payload)
    text = bytes(payload).decode("utf-8", "replace")
    try:
        return json.loads(text)
    except ValueError:
        return text


if __name__ == "__main__":
    raise SystemExit(main())
