"""A broker of a few lines that does what mosquitto will not: refuse MQTT 5, or say nothing."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal

Manner = Literal["refuse", "close", "silent"]


@dataclass
class FakeBroker:
    """Speaks enough 3.1.1 for a publisher. ``manner`` is its answer to anybody else."""

    manner: Manner = "refuse"
    port: int = 0
    levels: list[int] = field(default_factory=list)
    """Protocol level of each CONNECT, in order: 5 or 4."""
    published: list[tuple[str, bytes]] = field(default_factory=list)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                kind, body = await _packet(reader)
                if kind >> 4 == 1:
                    self.levels.append(body[6])
                    if body[6] == 4 and self.manner != "silent":
                        writer.write(b"\x20\x02\x00\x00")
                    elif self.manner == "refuse":
                        # 3.1.1, 3.2.2.3: unacceptable protocol version, then close.
                        writer.write(b"\x20\x02\x00\x01")
                        return
                    elif self.manner == "close":
                        return
                elif kind >> 4 == 3:
                    size = int.from_bytes(body[:2], "big")
                    topic, rest = body[2 : 2 + size].decode(), body[2 + size :]
                    if kind & 0b110:
                        writer.write(b"\x40\x02" + rest[:2])
                        rest = rest[2:]
                    self.published.append((topic, rest))
                elif kind >> 4 == 8:
                    writer.write(b"\x90\x03" + body[:2] + b"\x01")
                elif kind >> 4 == 14:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()


async def _packet(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    (kind,) = await reader.readexactly(1)
    size = shift = 0
    while True:
        (byte,) = await reader.readexactly(1)
        size |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return kind, await reader.readexactly(size)


@asynccontextmanager
async def fake_broker(manner: Manner = "refuse") -> AsyncIterator[FakeBroker]:
    broker = FakeBroker(manner)
    handlers: set[asyncio.Task[None]] = set()

    def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.add(asyncio.create_task(broker._serve(reader, writer)))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    broker.port = server.sockets[0].getsockname()[1]
    try:
        yield broker
    finally:
        server.close()
        for handler in handlers:
            handler.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)


@contextmanager
def black_hole() -> Iterator[int]:
    """A port at which a connection is neither made nor refused: nobody empties its full queue."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            with suppress(BlockingIOError):
                waiting.connect(listener.getsockname())
        yield listener.getsockname()[1]
