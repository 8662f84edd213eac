"""A TCP connection that can be cut, as a network does it: without a goodbye from either end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class Cable:
    """Passes bytes on to ``target``, a port of this machine."""

    target: int
    port: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def cut(self) -> None:
        """End all connections; new ones are taken."""
        tasks, self._tasks = self._tasks, set()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_pump(reader, far_writer))
                group.create_task(_pump(far_reader, writer))
        finally:
            writer.transport.abort()
            far_writer.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(4096):
            writer.write(data)
        writer.close()


@asynccontextmanager
async def cable(target: int) -> AsyncIterator[Cable]:
    made = Cable(target)

    def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made._tasks.add(asyncio.create_task(made._join(reader, writer)))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        await made.cut()
