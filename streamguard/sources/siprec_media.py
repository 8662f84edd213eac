"""The audio of recorded calls: one signalled line on one port, and the ports that there are."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv6Address

from streamguard.errors import SourceError
from streamguard.events import Audio, Quality, SourceEvent
from streamguard.protocols.rtcp import ReportBlock, RtcpPacket, parse_rtcp
from streamguard.protocols.rtp import Malformed, RtpPacket, parse
from streamguard.protocols.rtp_stream import RtpStream
from streamguard.protocols.siprec_session import LineSpec
from streamguard.protocols.srtp import SrtpReceiver, parse_inline
from streamguard.sources.rtp_socket import Address, DatagramReader, Traffic, bind_udp

QUALITY_S = 1.0
MAX_TRIES = 8
"""Ports to try for a line where somebody else has taken ours."""


class SignalledLine:
    """Datagrams of one line in, events out. Pure.

    Only the address that SDP named may send: whoever can reach the port could else put words into
    the call. Its port is that of SDP, or, until that one is heard, the first of its host that is:
    some send from another than they name.
    """

    def __init__(self, spec: LineSpec, drops: Counter[str], jitter_s: float, now: float) -> None:
        self._drops = drops
        self._stream = RtpStream(spec.leg, spec.formats, drops, jitter_s, spec.announced)
        self._heard_at = self._quality_at = now
        self._reported_at = float("-inf")
        self._far_end: ReportBlock | None = None
        self._port: int | None = None
        self._receiver: SrtpReceiver | None = None
        self._spec = spec
        self._set_key()

    @property
    def heard(self) -> tuple[float, bool]:
        """When something last came, and whether its sender announced silence, or lives but has
        nothing to say (RTCP)."""
        at_rest = self._stream.silent or self._reported_at > self._heard_at
        return self._heard_at, at_rest

    def change(self, spec: LineSpec) -> None:
        """The line was renegotiated."""
        old, self._spec = self._spec, spec
        self._stream.formats = spec.formats
        if (spec.host, spec.port) != (old.host, old.port):
            self._port = None
        if spec.crypto != old.crypto:
            self._set_key()

    def datagram(self, data: bytes, sender: Address, now: float) -> list[SourceEvent]:
        """Take what came to the port itself: RTP, or RTCP beside it (RFC 5761)."""
        plain = self._admit(data, sender, is_media=True)
        if plain is None:
            return []
        packet = parse(plain)
        if isinstance(packet, RtpPacket):
            self._port = sender[1]
            self._heard_at = now
            return self._stream.receive(packet, now)
        self._control(packet, now)
        return []

    def control(self, data: bytes, sender: Address, now: float) -> list[SourceEvent]:
        """Take what came to the port above: RTCP only."""
        plain = self._admit(data, sender, is_media=False)
        if plain is not None:
            self._control(parse_rtcp(plain) or Malformed.RTCP, now)
        return []

    def tick(self, now: float) -> list[SourceEvent]:
        """Let time pass; to be called a few times per packet time, packets or not."""
        events = self._stream.poll(now)
        if now - self._quality_at >= QUALITY_S:
            self._quality_at = now
            events.append(self._quality())
        return events

    def finish(self) -> list[SourceEvent]:
        """What is still held; call before the leg ends."""
        return [*self._stream.flush(), self._quality()]

    def _set_key(self) -> None:
        crypto = self._spec.crypto
        self._receiver = (
            SrtpReceiver(crypto.suite, parse_inline(crypto.key_params)) if crypto else None
        )

    def _admit(self, data: bytes, sender: Address, *, is_media: bool) -> bytes | None:
        host, port = sender
        signalled = self._spec.port
        if host != self._spec.host or (
            is_media and port != signalled and self._port not in (None, port)
        ):
            self._drops["locked_out"] += 1
            return None
        if self._receiver is None:
            return data
        plain = self._receiver.open(data)
        if plain is None:
            self._drops["srtp"] += 1
        return plain

    def _control(self, packet: RtcpPacket | Malformed, now: float) -> None:
        """A BYE ends nothing here: that is for SIP to say."""
        if isinstance(packet, Malformed):
            self._drops[packet.value] += 1
            return
        if self._stream.ssrc in packet.reporters:
            self._reported_at = now
        for block in packet.reports:
            if block.ssrc == self._stream.ssrc:
                self._far_end = block

    def _quality(self) -> Quality:
        reception, far_end = self._stream.reception, self._far_end
        return Quality(
            self._spec.leg,
            reception.loss_pct,
            1000 * reception.jitter_s,
            far_loss_pct=100 * far_end.fraction_lost if far_end else None,
            far_jitter_ms=1000 * far_end.jitter / self._stream.clock_hz if far_end else None,
        )


class MediaPorts:
    """The lines that are up, each on a pair of sockets of its own; on the event loop only.

    Ports are used in turn, so that one rests for as long as possible before another call gets it.
    """

    def __init__(
        self,
        source: str,
        host: IPv4Address | IPv6Address,
        ports: Iterable[int],
        jitter_s: float,
        traffic: Traffic,
        now: Callable[[], float],
        emit: Callable[[SourceEvent], None],
        fail: Callable[[SourceError], None],
    ) -> None:
        self._source = source
        self._host = host
        self._free = deque(ports)
        self._jitter_s = jitter_s
        self._traffic = traffic
        self._now = now
        self._emit = emit
        self._fail = fail
        self._lines: dict[str, tuple[SignalledLine, int, DatagramReader, DatagramReader]] = {}
        """By leg: with its port, and the readers of RTP and RTCP."""
        self.started = 0
        self.last_audio_at: float | None = None

    @property
    def active(self) -> int:
        return len(self._lines)

    def open(self, spec: LineSpec) -> int | None:
        """A port for a new line; None where none can be had."""
        line = SignalledLine(spec, self._traffic.drops, self._jitter_s, self._now())
        for _ in range(min(MAX_TRIES, len(self._free))):
            port = self._free.popleft()
            readers = self._bind(line, port)
            if readers is not None:
                self._lines[spec.leg] = (line, port, *readers)
                self.started += 1
                return port
            self._free.append(port)
            self._traffic.drops["port_taken"] += 1
        return None

    def change(self, spec: LineSpec) -> None:
        self._lines[spec.leg][0].change(spec)

    def close(self, leg: str) -> list[SourceEvent]:
        """Give back the port; what the leg still had to say."""
        line, port, media, control = self._lines.pop(leg)
        media.drain()  # what came before the BYE was said before it
        control.close()
        media.close()
        self._free.append(port)
        return line.finish()

    def heard(self, leg: str) -> tuple[float, bool]:
        return self._lines[leg][0].heard

    def tick(self, now: float) -> None:
        """Let time pass for all lines."""
        for line, *_ in list(self._lines.values()):
            self._deliver(line.tick(now))

    def shut(self) -> None:
        """Give back every port and say nothing."""
        for _, _, media, control in self._lines.values():
            control.close()
            media.close()
        self._lines.clear()

    def _bind(self, line: SignalledLine, port: int) -> tuple[DatagramReader, DatagramReader] | None:
        try:
            media_socket = bind_udp(self._source, self._host, port)
        except SourceError:
            return None
        try:
            control_socket = bind_udp(self._source, self._host, port + 1)
        except SourceError:
            media_socket.close()
            return None

        def read(data: bytes, sender: Address, now: float) -> None:
            self._deliver(line.datagram(data, sender, now))

        def read_control(data: bytes, sender: Address, now: float) -> None:
            self._deliver(line.control(data, sender, now))

        source, traffic, fail = self._source, self._traffic, self._fail
        media = DatagramReader(source, media_socket, read, traffic, self._now, fail)
        control = DatagramReader(source, control_socket, read_control, traffic, self._now, fail)
        return media, control

    def _deliver(self, events: Iterable[SourceEvent]) -> None:
        for event in events:
            if isinstance(event, Audio):
                self.last_audio_at = event.received_at
            self._emit(event)
