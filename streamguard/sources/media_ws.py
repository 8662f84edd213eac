"""Media WebSockets: one HTTP server, a path for each dialect; who may connect is checked before.

Nothing is read from a connection that has not shown its credential (for Telnyx it may come in the
first message), and nothing is sent but what a protocol requires.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Final, cast

from streamguard.clock import Clock
from streamguard.errors import ProtocolError, SourceError
from streamguard.events import EndReason, SourceUp
from streamguard.protocols.handshake import Handshake
from streamguard.protocols.media_session import ENDED, MediaSession, Outcome
from streamguard.sources.base import Emit, Refusal, SourceStats
from streamguard.sources.connections import QUEUE_EVENTS, TICK_S, Connection, Connections
from streamguard.sources.event_queue import EventQueue
from streamguard.sources.media_doors import Door, open_doors, tls_context
from streamguard.sources.media_ws_settings import MediaWsSettings

if TYPE_CHECKING:
    from aiohttp import web

_HEADERS: Final = {"Server": "streamguard", "Cache-Control": "no-store"}
RETRY_AFTER_S: Final = 30
"""What a refused peer is told; few of them ask."""
_REFUSED_HEADERS: Final = {
    401: {"WWW-Authenticate": "Bearer"},
    503: {"Retry-After": str(RETRY_AFTER_S)},
}
IDLE_S: Final = 15.0
"""A connection that asks for nothing in this time is closed."""
SHUT_S: Final = 0.5
"""For the last words to all peers."""
CLOSE_S: Final = 2.0
"""How long a peer that is closed may take to agree."""
SOCKETS_BESIDE: Final = 1_024
"""Beside those of calls: who has not said what it wants. More are closed as they come, so that
strangers take neither the memory nor the files that the calls need."""
HANDSHAKE_S: Final = 10.0
MAX_TURNED_AWAY: Final = 16
"""AudioHook sessions at a time that are accepted only to be told that there is no room."""
_NORMAL, _GOING_AWAY, _POLICY = 1000, 1001, 1008
"""RFC 6455 section 7.4.1."""


class MediaWsSource:
    """Listens as its settings say; counters are by reason, for the whole source."""

    def __init__(self, settings: MediaWsSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._drops: Counter[str] = Counter()
        self._connections = Connections(settings, clock, self._drops)
        self._tasks: set[asyncio.Task[None]] = set()
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
        """Receive until cancelled; raises SourceError when it cannot listen or read a secret."""
        from aiohttp import web

        queue = EventQueue(QUEUE_EVENTS, self._drops)
        self._connections.begin(queue)
        app = web.Application()
        settings = self._settings
        doors = await asyncio.to_thread(open_doors, settings)
        context = await asyncio.to_thread(tls_context, settings)
        for door in doors:
            app.router.add_get(door.entry.path, partial(self._handle, door=door))
        app.on_response_prepare.append(_unnamed)
        runner = web.AppRunner(
            app,
            access_log=None,
            handle_signals=False,
            shutdown_timeout=SHUT_S,
            keepalive_timeout=IDLE_S,
            logger=_http_log(),
        )
        await runner.setup()
        host, _ = self._settings.address
        listener: asyncio.Server | None = None
        ticker: asyncio.Task[None] | None = None
        try:
            listener = await self._open(runner, context)
            self.port = int(listener.sockets[0].getsockname()[1])
            ticker = asyncio.create_task(self._tick(), name=f"media-ws-ticks[{self.name}]")
            paths = ", ".join(entry.path for entry in self._settings.paths)
            await emit(SourceUp(self.name, f"WebSockets on {host} port {self.port}: {paths}"))
            await queue.pump(emit)
        finally:
            if listener is not None:
                listener.close()
            if ticker is not None:
                ticker.cancel()
            self._connections.shut()
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=SHUT_S)
            await runner.cleanup()
            for task in self._tasks:
                task.cancel()

    async def _open(self, runner: web.AppRunner, tls: ssl.SSLContext | None) -> asyncio.Server:
        """Listen; aiohttp's own sites take any number of sockets. Raises SourceError."""
        server = runner.server
        assert server is not None  # the runner is set up
        room = self._settings.max_calls + SOCKETS_BESIDE

        def protocol() -> asyncio.BaseProtocol:
            if len(server.connections) < room:
                return server()
            self._connections.refused("sockets")
            return _Refusing()

        host, port = self._settings.address
        handshake_s = HANDSHAKE_S if tls is not None else None
        try:
            return await asyncio.get_running_loop().create_server(
                protocol, host, port, ssl=tls, ssl_handshake_timeout=handshake_s
            )
        except OSError as err:
            reason = f"cannot listen on {self._settings.listen}: {err.strerror or err}"
            raise SourceError(self.name, reason) from err

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._connections.tick()

    async def _handle(self, request: web.Request, *, door: Door) -> web.StreamResponse:
        """One request: refused with a status, or a connection until its end."""
        from aiohttp import web

        handshake = _handshake(request)
        status, reason = self._judge(request.remote or "", handshake, door)
        busy = self._connections.refusal() if status is None else None
        if busy is not None:
            self._connections.refused(busy)
            if not door.can_turn_away or self._connections.uncounted() >= MAX_TURNED_AWAY:
                status, reason = 503, busy
        elif status is not None:
            self._connections.refused(reason, f"{door.entry.path}: {reason}")
        if status is not None:
            # What exactly is wrong with a credential is for our log alone.
            return web.Response(status=status, headers=_REFUSED_HEADERS.get(status))
        socket = web.WebSocketResponse(
            protocols=door.subprotocols,
            timeout=CLOSE_S,
            heartbeat=self._settings.heartbeat_s,
            max_msg_size=self._settings.max_message_bytes,
            compress=False,  # audio does not become smaller, and what inflates is a risk
        )
        if not socket.can_prepare(request).ok:
            self._connections.refused("no_websocket")
            return web.Response(status=426, text="WebSocket\n", headers={"Upgrade": "websocket"})
        session = door.session(self.name, self._drops, handshake, busy=busy is not None)
        with contextlib.suppress(ConnectionError):
            await self._listen(request, socket, session, counted=busy is None)
        return socket

    def _judge(self, remote: str, handshake: Handshake, door: Door) -> tuple[int | None, str]:
        """Status and reason of a refusal; no status for who may come in."""
        if not self._connections.is_allowed(remote):
            return 403, "not_allowed"
        try:
            door.judge(handshake, self._clock.utc())
        except ProtocolError as err:
            return 401, err.reason
        return None, ""

    async def _listen(
        self,
        request: web.Request,
        socket: web.WebSocketResponse,
        session: MediaSession,
        *,
        counted: bool,
    ) -> None:
        def close(outcome: Outcome) -> None:
            task = asyncio.create_task(_close(socket, outcome), name=f"media-ws-close[{self.name}]")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        # Before anything is awaited: of many that come at once only so many find room.
        connection = self._connections.add(session, close, counted=counted)
        reason = EndReason.SOURCE_LOST
        try:
            await socket.prepare(request)
            await self._read(socket, session, connection)
            if socket.close_code in {_NORMAL, _GOING_AWAY}:
                reason = EndReason.HANGUP
        finally:
            if reason is EndReason.SOURCE_LOST and not session.over:
                self._drops["connection_lost"] += 1
            self._connections.remove(connection, reason)
            self._connections.ended(session)

    async def _read(
        self, socket: web.WebSocketResponse, session: MediaSession, connection: Connection
    ) -> None:
        from aiohttp import WSMsgType

        cost_s = 1.0 / self._settings.max_messages_per_s
        async for message in socket:
            now = self._clock.monotonic()
            if message.type is WSMsgType.TEXT:
                outcome = session.text(message.data, now)
            elif message.type is WSMsgType.BINARY:
                outcome = session.binary(message.data, now)
            else:
                return  # a message that was too long, or no UTF-8: it is being closed
            wait_s = self._connections.take(connection, outcome, now, cost_s)
            if outcome.close is not None:
                await _close(socket, outcome)
                return
            for reply in outcome.replies:
                await socket.send_str(reply)
            if wait_s:
                await asyncio.sleep(wait_s)


class _Refusing(asyncio.Protocol):
    """For a socket too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not asked for by its class: uvloop's transports are of none of asyncio's.
        cast(asyncio.Transport, transport).abort()


async def _close(socket: web.WebSocketResponse, outcome: Outcome) -> None:
    """Say the last words and close; the peer may be gone, or not be connected yet."""
    if not socket.prepared:
        return
    with contextlib.suppress(ConnectionError):
        for reply in outcome.replies:
            await socket.send_str(reply)
        reason = outcome.close or ENDED
        code = _NORMAL if reason == ENDED else _POLICY
        await socket.close(code=code, message=reason.encode())


def _handshake(request: web.Request) -> Handshake:
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        key = name.lower()
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    return Handshake(headers, request.raw_path)


async def _unnamed(request: web.Request, response: web.StreamResponse) -> None:
    """Say nothing of what we are made of."""
    response.headers.update(_HEADERS)


def _http_log() -> logging.Logger:
    """For aiohttp, which tells of every request that is no HTTP, with a traceback: strangers could
    fill the disk with it. What is not a request is closed, and that is all."""
    log = logging.getLogger(f"{__name__}.http")
    log.setLevel(logging.CRITICAL)
    return log
