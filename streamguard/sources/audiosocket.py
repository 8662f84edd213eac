"""AudioSocket over TCP: Asterisk connects, one connection per call leg; we answer nothing.

The protocol has no word for busy but hanging up, which is what a call too many gets at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter

from streamguard.clock import Clock
from streamguard.errors import SourceError
from streamguard.events import EndReason, SourceUp
from streamguard.protocols.audiosocket import HANGUP_FRAME, AudioSocketSession
from streamguard.protocols.media_session import Outcome
from streamguard.sources.audiosocket_settings import AudioSocketSettings
from streamguard.sources.base import Emit, Refusal, SourceStats
from streamguard.sources.connections import QUEUE_EVENTS, TICK_S, Connections
from streamguard.sources.event_queue import EventQueue

READ_BYTES = 65_536
LINGER_S = 1.0
"""How long a peer that was hung up on may take to close, too."""
MAX_FRAMES_PER_S = 500.0
"""Of one connection: 2 ms each; a faster one is read no faster than this."""


class AudioSocketSource:
    """Listens as its settings say; counters are by reason, for the whole source."""

    def __init__(self, settings: AudioSocketSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._drops: Counter[str] = Counter()
        self._connections = Connections(settings, clock, self._drops)
        self.port = settings.address[1]
        """The one that it listens on, once it does."""

    @property
    def name(self) -> str:
        return self._settings.name

    def stats(self) -> SourceStats:
        return self._connections.stats()

    def refuse_calls(self, why: Refusal | None) -> None:
        """Answer new calls as busy; None takes them again. Those that are up go on."""
        self._connections.refusing = why

    async def run(self, emit: Emit) -> None:
        """Receive until cancelled; raises SourceError when it cannot listen."""
        loop = asyncio.get_running_loop()
        queue = EventQueue(QUEUE_EVENTS, self._drops)
        self._connections.begin(queue)
        tasks: set[asyncio.Task[None]] = set()
        writers: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

        def gone(task: asyncio.Task[None]) -> None:
            tasks.discard(task)
            writers.pop(task).close()

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = loop.create_task(self._serve(reader, writer), name=f"audiosocket[{self.name}]")
            tasks.add(task)
            writers[task] = writer
            task.add_done_callback(gone)

        host, port = self._settings.address
        try:
            server = await asyncio.start_server(connected, host, port, limit=READ_BYTES)
        except OSError as err:
            reason = f"cannot listen on {self._settings.listen}: {err.strerror or err}"
            raise SourceError(self.name, reason) from err
        self.port = int(server.sockets[0].getsockname()[1])
        ticker = loop.create_task(self._tick(), name=f"audiosocket-ticks[{self.name}]")
        tasks.add(ticker)
        try:
            await emit(SourceUp(self.name, f"AudioSocket on {host} port {self.port}"))
            await queue.pump(emit)
        finally:
            server.close()
            self._connections.shut()
            open_writers = list(writers.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await _shut(open_writers)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._connections.tick()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its acceptance to its end."""
        peer = writer.get_extra_info("peername")
        refusal = self._connections.refusal()
        if peer is None or not self._connections.is_allowed(str(peer[0])):
            refusal = "not_allowed"
        if refusal is not None:
            self._connections.refused(refusal)
            await _close(reader, writer, say=refusal != "not_allowed")
            return
        sock = writer.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        session = AudioSocketSession(self.name, self._drops, self._settings.role)
        session.trunk = str(peer[0])

        def hang_up(outcome: Outcome) -> None:
            writer.write(HANGUP_FRAME)
            writer.close()

        connection = self._connections.add(session, hang_up)
        reason = EndReason.SOURCE_LOST
        try:
            while data := await reader.read(READ_BYTES):
                now = self._clock.monotonic()
                frames = session.frames
                outcome = session.feed(data, now)
                cost_s = max(1, session.frames - frames) / MAX_FRAMES_PER_S
                wait_s = self._connections.take(connection, outcome, now, cost_s)
                if outcome.close is not None:
                    break
                if wait_s:
                    await asyncio.sleep(wait_s)
            else:
                reason = EndReason.HANGUP  # closing is as good as saying so
        except OSError:
            self._drops["connection_lost"] += 1
        finally:
            self._connections.remove(connection, reason)
            self._connections.ended(session)
        await _close(reader, writer, say=True)


async def _shut(writers: list[asyncio.StreamWriter]) -> None:
    """Wait until all are closed; who does not take the last word in time is cut off."""
    closing = [asyncio.ensure_future(writer.wait_closed()) for writer in writers]
    if closing:
        await asyncio.wait(closing, timeout=LINGER_S)
        for writer in writers:
            writer.transport.abort()
        await asyncio.gather(*closing, return_exceptions=True)


async def _close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, say: bool) -> None:
    """Hang up, and see that it arrives.

    To close with something unread in the socket would take our last word back (RST instead of FIN),
    and there is something: Asterisk sends the UUID without waiting for anything.
    """
    with contextlib.suppress(OSError, TimeoutError):
        if say and not writer.is_closing():
            writer.write(HANGUP_FRAME)
            writer.write_eof()
            async with asyncio.timeout(LINGER_S):
                while await reader.read(READ_BYTES):
                    pass
    with contextlib.suppress(OSError):
        writer.close()
        await writer.wait_closed()
