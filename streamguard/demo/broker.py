"""An embedded MQTT broker (amqtt) in a process of its own, on loopback, for the demonstration.

It speaks MQTT 3.1.1 only, keeps nothing on disk and lets everybody in: enough to show, no more.
``python -m streamguard.demo.broker --port 18830`` runs until its standard input ends.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from streamguard.demo.child import Child, end_of_input, tell
from streamguard.errors import MissingExtraError

HOST: Final = "127.0.0.1"
_READY_S: Final = 15.0


@asynccontextmanager
async def running_broker() -> AsyncIterator[int]:
    """A broker that lives as long as the block; yields its port."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    child = await Child.start("streamguard.demo.broker", "--port", str(port))
    try:
        await child.expect("ready", _READY_S)
        yield port
    finally:
        await child.stop()


async def serve(port: int) -> None:
    """Run the broker until standard input ends. Raises MissingExtraError without amqtt."""
    try:
        from amqtt.broker import Broker
    except ImportError as err:
        raise MissingExtraError("the embedded broker", "demo", str(err)) from err
    config = {
        "listeners": {"default": {"type": "tcp", "bind": f"{HOST}:{port}"}},
        "plugins": {
            "amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True},
        },
    }
    broker = Broker(config)
    await broker.start()
    try:
        tell("ready", port=port)
        await end_of_input()
    finally:
        await broker.shutdown()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m streamguard.demo.broker")
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.ERROR)
    asyncio.run(serve(options.port))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
