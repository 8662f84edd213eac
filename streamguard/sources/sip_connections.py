"""TCP and TLS connections that SIP comes over: accepted, limited, watched."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any, cast

from streamguard.errors import ProtocolError, SourceError
from streamguard.protocols.sip_message import KeepAlive, SipMessage, SipStream
from streamguard.protocols.sip_transaction import Flow
from streamguard.sources.connections import Pace
from streamguard.telemetry.log import RepeatLimiter

logger = logging.getLogger(__name__)

BACKLOG = 128
HANDSHAKE_S = 10.0
MESSAGE_S = 10.0
"""How long a message may take from its first byte to its last, and a new connection to say
anything: a half-open one must not hold a place."""
IDLE_S = 600.0
"""A connection without calls is closed when nothing has come for so long."""
MESSAGES_PER_S = 500.0
"""Of one connection, on average: far more than calls need, and few enough to hear them all."""
MESSAGES_AHEAD_S = 4.0
"""How many may come at once, in units of the time that their number is allowed."""
MAX_UNSENT_BYTES = 1 << 18
"""A peer that reads no answers is disconnected."""
ACCEPT_AGAIN_S = 1.0
"""After the system had no file left for a connection."""

Receive = Callable[[SipMessage, Flow], None]


@dataclass(frozen=True, slots=True)
class Listener:
    """One address that connections come in on."""

    host: IPv4Address | IPv6Address
    port: int
    tls: ssl.SSLContext | None


@dataclass(frozen=True, slots=True)
class Limits:
    """How many connections, of all and of one host, who may connect at all, and the time."""

    total: int
    per_host: int
    is_allowed: Callable[[str], bool]
    now: Callable[[], float]


class SipConnections:
    """Every connection of one source, by number; on the event loop only."""

    def __init__(
        self,
        source: str,
        limits: Limits,
        drops: Counter[str],
        receive: Receive,
        closed: Callable[[Flow], None],
        has_calls: Callable[[Flow], bool],
    ) -> None:
        self._source = source
        self._limits = limits
        self._drops = drops
        self._receive = receive
        self._closed = closed
        self._has_calls = has_calls
        self._repeats = RepeatLimiter(logger)
        self._numbers = iter(range(1_000_000, 1 << 62))
        """Apart from the numbers of the UDP sockets."""
        self._open: dict[int, _Connection] = {}
        self._hosts: Counter[str] = Counter()
        """Connections by host, those in their handshake too; only of hosts that have one."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._all_closed = asyncio.Event()

    def __len__(self) -> int:
        return self._hosts.total()

    def listen(self, listener: Listener) -> socket.socket:
        """A listening socket, served until :meth:`shut`. Raises SourceError."""
        host = listener.host
        family = socket.AF_INET if host.version == 4 else socket.AF_INET6
        sock: socket.socket | None = None
        try:
            sock = socket.socket(family, socket.SOCK_STREAM)
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if host.version == 6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((str(host), listener.port))
            sock.listen(BACKLOG)
        except OSError as err:
            if sock is not None:  # else the system has no IPv6, or no file left
                sock.close()
            reason = f"cannot listen on {host} port {listener.port}: {err.strerror}"
            raise SourceError(self._source, reason) from err
        self._run(self._accept(sock, listener), f"sip-accept[{self._source}]")
        return sock

    def send(self, flow: Flow, data: bytes) -> None:
        """To a connection; one that is gone swallows it, counted."""
        connection = self._open.get(flow.local)
        if connection is None:
            self._drops["send"] += 1
        else:
            connection.write(data)

    def local_address(self, flow: Flow) -> tuple[str, int] | None:
        """Ours, as the peer of a connection knows it."""
        connection = self._open.get(flow.local)
        return connection.local if connection is not None else None

    def tick(self) -> None:
        """Close what has been silent, or half said, for too long."""
        now = self._limits.now()
        for connection in list(self._open.values()):
            reason = connection.overdue(now)
            if reason == "idle" and self._has_calls(connection.flow):
                continue
            if reason is not None:
                self._drops[f"connection_{reason}"] += 1
                connection.abort()

    async def shut(self, timeout_s: float) -> None:
        """Accept no more and close every connection, when what it has to say is said, or then."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for connection in list(self._open.values()):
            connection.close()
        if self._open:
            self._all_closed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._all_closed.wait()
        for connection in list(self._open.values()):
            connection.abort()

    def _run(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, sock: socket.socket, listener: Listener) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                peer, address = await loop.sock_accept(sock)
            except OSError as err:
                # Of the system (no file left) or of a peer that was gone at once.
                self._refuse("accept", err.strerror or "")
                await asyncio.sleep(ACCEPT_AGAIN_S)
                continue
            host = str(address[0])
            limits = self._limits
            if not limits.is_allowed(host):
                refusal = "not_allowed"
            elif len(self) >= limits.total or self._hosts[host] >= limits.per_host:
                refusal = "connections"
            else:
                self._hosts[host] += 1
                flow = Flow("TLS" if listener.tls else "TCP", host, address[1], next(self._numbers))
                self._run(self._serve(peer, flow, listener), f"sip-connect[{self._source}]")
                continue
            self._refuse(refusal)
            peer.close()

    async def _serve(self, sock: socket.socket, flow: Flow, listener: Listener) -> None:
        """Greet; from then on the connection serves itself."""
        loop = asyncio.get_running_loop()
        connection = _Connection(self, flow)
        try:
            await loop.connect_accepted_socket(
                lambda: connection,
                sock,
                ssl=listener.tls,
                ssl_handshake_timeout=HANDSHAKE_S if listener.tls else None,
            )
        except OSError as err:  # ssl.SSLError is one
            self._refuse("handshake", type(err).__name__)
        finally:
            if not connection.made:
                sock.close()
                self._forget_host(flow.host)

    def _refuse(self, reason: str, words: str = "") -> None:
        self._drops[reason] += 1
        self._repeats.log(
            logging.WARNING,
            reason,
            "source %s: connection refused: %s %s",
            self._source,
            reason,
            words,
        )

    def _forget_host(self, host: str) -> None:
        self._hosts[host] -= 1
        if self._hosts[host] <= 0:
            del self._hosts[host]

    # Called by connections.

    def now(self) -> float:
        return self._limits.now()

    def made(self, connection: _Connection) -> None:
        self._open[connection.flow.local] = connection

    def message(self, message: SipMessage, flow: Flow) -> None:
        self._receive(message, flow)

    def drop(self, reason: str) -> None:
        self._drops[reason] += 1

    def throttled(self) -> None:
        self._repeats.log(
            logging.WARNING,
            "throttled",
            "source %s: a SIP peer is faster than it may be and is read slowly",
            self._source,
        )

    def lost(self, flow: Flow) -> None:
        del self._open[flow.local]
        self._forget_host(flow.host)
        if not self._open:
            self._all_closed.set()
        self._closed(flow)


class _Connection(asyncio.Protocol):
    """One connection: bytes in, messages out."""

    def __init__(self, owner: SipConnections, flow: Flow) -> None:
        self.flow = flow
        self.made = False
        self._owner = owner
        self._stream = SipStream()
        self._began_at: float | None = owner.now()
        """When the message that is not complete began; None where there is none."""
        self._heard_at = owner.now()
        self._pace = Pace(MESSAGES_AHEAD_S)
        self._pause: asyncio.TimerHandle | None = None

    @property
    def local(self) -> tuple[str, int]:
        name = self._transport.get_extra_info("sockname")
        return str(name[0]), int(name[1])

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not asked for by its class: uvloop's transports are of none of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self.made = True
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._owner.made(self)

    def data_received(self, data: bytes) -> None:
        self._heard_at = self._owner.now()
        try:
            items = self._stream.feed(data)
        except ProtocolError as err:
            self._owner.drop(f"{err.protocol}_{err.reason}")
            self.close()
            return
        if items or not self._stream.pending:
            self._began_at = None
        if self._stream.pending and self._began_at is None:
            self._began_at = self._heard_at
        for item in items:
            if isinstance(item, KeepAlive):
                self.write(b"\r\n")
            else:
                self._owner.message(item, self.flow)
        wait_s = self._pace.add(len(items) / MESSAGES_PER_S, self._heard_at)
        if wait_s and not self._transport.is_closing():
            if self._pause is None:
                self._owner.throttled()
                self._transport.pause_reading()
            else:  # what was read already, of TLS
                self._pause.cancel()
            self._pause = asyncio.get_running_loop().call_later(wait_s, self._read_on)

    def _read_on(self) -> None:
        self._pause = None
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._pause is not None:
            self._pause.cancel()
        self._owner.lost(self.flow)

    def overdue(self, now: float) -> str | None:
        """Why it should be closed."""
        if self._began_at is not None and now - self._began_at >= MESSAGE_S:
            return "half_open"
        return "idle" if now - self._heard_at >= IDLE_S else None

    def write(self, data: bytes) -> None:
        if self._transport.is_closing():
            return
        if self._transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            self._owner.drop("connection_unread")
            self.abort()
            return
        self._transport.write(data)

    def close(self) -> None:
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()
