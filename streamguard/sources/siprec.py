"""SIPREC over UDP, TCP and TLS: the sockets around the session recording server."""

from __future__ import annotations

import asyncio
import socket
import ssl

from streamguard.clock import Clock
from streamguard.errors import MissingExtraError, ProtocolError, SourceError
from streamguard.events import SourceEvent, SourceUp
from streamguard.protocols.digest import DigestGate
from streamguard.protocols.sip_message import MAX_MESSAGE_BYTES, SipMessage, parse_message
from streamguard.protocols.sip_transaction import Flow, Send
from streamguard.protocols.siprec_rules import ServerRules
from streamguard.protocols.siprec_server import SiprecServer
from streamguard.protocols.srtp import check_extra
from streamguard.sources.base import Emit, Refusal, SourceStats, new_id
from streamguard.sources.event_queue import EventQueue
from streamguard.sources.networks import membership
from streamguard.sources.rate_limit import RateLimit
from streamguard.sources.rtp_socket import Address, DatagramReader, Traffic, bind_udp
from streamguard.sources.sip_connections import Limits, Listener, SipConnections
from streamguard.sources.siprec_media import MediaPorts
from streamguard.sources.siprec_settings import ListenSettings, SiprecSettings, Transport
from streamguard.sources.tls import server_context

TICK_S = 0.05
"""How often time is noticed where nothing arrives: holes, retransmissions, inactivity."""
QUEUE_EVENTS = 8_192
"""As of the RTP source: 2.5 s of 64 legs at 20 ms a packet."""
GOODBYE_S = 0.5
"""How long connections have to take our BYE when the source stops."""
_KEEP_ALIVE = b"\r\n\r\n"


class SiprecSource:
    """Listens as its settings say; counters are by reason, for the whole source."""

    def __init__(self, settings: SiprecSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._traffic = Traffic()
        self._refusal: Refusal | None = None
        self._run: _Run | None = None
        self._legs_started = 0
        self._last_audio_at: float | None = None

    @property
    def name(self) -> str:
        return self._settings.name

    def stats(self) -> SourceStats:
        media = self._run.media if self._run is not None else None
        return SourceStats(
            received=self._traffic.received,
            dropped={reason: count for reason, count in self._traffic.drops.items() if count},
            legs_active=media.active if media is not None else 0,
            legs_started=self._legs_started + (media.started if media is not None else 0),
            last_audio_at=(media.last_audio_at if media else None) or self._last_audio_at,
        )

    def refuse_calls(self, why: Refusal | None) -> None:
        """Answer INVITEs 503 with Retry-After; OPTIONS too, so that nobody sends any."""
        self._refusal = why
        if self._run is not None:
            self._run.server.refusal = why.value if why is not None else None

    async def run(self, emit: Emit) -> None:
        """Receive until cancelled; raises SourceError when it cannot listen."""
        tls, gate = await asyncio.to_thread(_credentials, self._settings)
        run = _Run(self._settings, self._clock, self._traffic, gate)
        self._run = run
        self.refuse_calls(self._refusal)
        try:
            run.listen(tls)
            places = ", ".join(map(str, self._settings.listen))
            await emit(SourceUp(self.name, f"SIPREC on {places}"))
            await run.queue.pump(emit)
        finally:
            self._legs_started += run.media.started
            self._last_audio_at = run.media.last_audio_at or self._last_audio_at
            self._run = None
            await run.close()


class _Run:
    """What lives from a start of the source to its end; the hands of the server."""

    def __init__(
        self, settings: SiprecSettings, clock: Clock, traffic: Traffic, gate: DigestGate | None
    ) -> None:
        self._settings = settings
        self._now = clock.monotonic
        self._traffic = traffic
        self._drops = traffic.drops
        self._is_allowed = membership(settings.allow)
        self._rate = RateLimit(settings.requests_per_s, settings.requests_burst)
        self._udp: list[tuple[socket.socket, DatagramReader, ListenSettings]] = []
        self._listening: list[socket.socket] = []
        self._timer: asyncio.TimerHandle | None = None
        self.queue = EventQueue(QUEUE_EVENTS, traffic.drops)
        self.media = MediaPorts(
            settings.name,
            settings.effective_media_host,
            settings.media_ports,
            settings.jitter_ms / 1000,
            traffic,
            self._now,
            self.queue.put,
            self.queue.fail,
        )
        rules = ServerRules(
            max_calls=settings.max_calls,
            retry_after_s=settings.retry_after_s,
            session_expires_s=settings.session_expires_s,
            inactivity_s=settings.inactivity_s,
            silence_inactivity_s=settings.silence_inactivity_s,
            srtp=_has_srtp(),
            end_on_disconnect=settings.end_on_disconnect,
        )
        self.server = SiprecServer(settings.name, rules, self, traffic.drops, gate)
        limits = Limits(
            settings.max_connections,
            settings.max_connections_per_host,
            self._is_allowed,
            self._now,
        )
        self._connections = SipConnections(
            settings.name,
            limits,
            traffic.drops,
            self._take,
            lambda flow: self.server.disconnected(flow, self._now()),
            self.server.has_calls_of,
        )

    def listen(self, tls: ssl.SSLContext | None) -> None:
        """Raises SourceError; what is open by then is for :meth:`close`."""
        for one in self._settings.listen:
            if one.transport is Transport.UDP:
                self._listen_udp(one)
            else:
                context = tls if one.transport is Transport.TLS else None
                listener = Listener(one.host, one.effective_port, context)
                self._listening.append(self._connections.listen(listener))
        self._tick()

    def _listen_udp(self, one: ListenSettings) -> None:
        number = len(self._udp)
        sock = bind_udp(self._settings.name, one.host, one.effective_port)

        def read(data: bytes, sender: Address, now: float) -> None:
            self._datagram(data, Flow("UDP", sender[0], sender[1], number), now)

        reader = DatagramReader(
            self._settings.name,
            sock,
            read,
            self._traffic,
            self._now,
            self.queue.fail,
            max_bytes=MAX_MESSAGE_BYTES,
        )
        self._udp.append((sock, reader, one))

    async def close(self) -> None:
        """Say BYE, once, and give everything back."""
        if self._timer is not None:
            self._timer.cancel()
        self.server.hang_up_all(self._now())
        self.media.shut()
        for _, reader, _ in self._udp:
            reader.close()
        await self._connections.shut(GOODBYE_S)
        for sock in self._listening:
            sock.close()

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)
        now = self._now()
        self.media.tick(now)
        self.server.poll(now)
        self._connections.tick()

    def _datagram(self, data: bytes, flow: Flow, now: float) -> None:
        if not self._is_allowed(flow.host):
            self._drops["not_allowed"] += 1
        elif data == _KEEP_ALIVE:
            self.send(Send(flow, b"\r\n"))
        elif data.strip(b"\r\n\0"):  # else a keep-alive that wants no answer
            try:
                message = parse_message(data)
            except ProtocolError as err:
                self._drops[f"{err.protocol}_{err.reason}"] += 1
                return
            self.server.receive(message, flow, now)

    def _take(self, message: SipMessage, flow: Flow) -> None:
        self._traffic.received += 1
        self.server.receive(message, flow, self._now())

    # What the server asks for.

    @property
    def media_host(self) -> str:
        """The address that answers name."""
        return str(self._settings.advertise or self._settings.effective_media_host)

    def send(self, send: Send) -> None:
        flow = send.flow
        if flow.is_reliable:
            self._connections.send(flow, send.data)
            return
        try:
            self._udp[flow.local][0].sendto(send.data, (flow.host, flow.port))
        except OSError:  # no room, no route: a request or response of ours is sent again anyway
            self._drops["send"] += 1

    def emit(self, event: SourceEvent) -> None:
        self.queue.put(event)

    def sent_by(self, flow: Flow) -> str:
        """``host:port`` of ours that the peer of this flow talks to."""
        if flow.is_reliable:
            host, port = self._connections.local_address(flow) or (self.media_host, 5060)
        else:
            one = self._udp[flow.local][2]
            host, port = str(one.host), one.effective_port
        host = str(self._settings.advertise or host)
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def new_id(self) -> str:
        return new_id()

    def allows(self, host: str, now: float) -> bool:
        return self._rate.allows(host, now)


def _credentials(settings: SiprecSettings) -> tuple[ssl.SSLContext | None, DigestGate | None]:
    """Read certificates and passwords. Raises SourceError saying which cannot be had."""
    context = None
    if settings.tls is not None:
        context = server_context(settings.name, settings.tls)
        authority = settings.tls.client_ca
        if authority is not None:
            try:
                context.load_verify_locations(authority)
            except OSError as err:  # ssl.SSLError is one
                reason = f"tls: cannot use {authority}: {err.strerror or err}"
                raise SourceError(settings.name, reason) from err
            context.verify_mode = ssl.CERT_REQUIRED
    gate = None
    if settings.digest is not None:
        digest = settings.digest
        try:
            passwords = {user.username: user.password.read() for user in digest.users}
        except ValueError as err:
            raise SourceError(settings.name, f"digest: {err}") from err
        gate = DigestGate(digest.realm, passwords, digest.algorithms)
    return context, gate


def _has_srtp() -> bool:
    try:
        check_extra()
    except MissingExtraError:
        return False
    return True
