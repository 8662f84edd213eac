"""Every parser of bytes that come from outside, behind one door for the fuzzers.

A target takes any bytes. Only ``ProtocolError`` may leave it, and only where the parser declares
it; whoever keeps state is asked whether it kept more than it may. ``modules`` says which modules
the target exercises: a test holds that against what there is.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from streamguard.errors import ProtocolError
from streamguard.events import Audio, CallEnded, EndReason, Gap, LegEnded, LegRole, LegStarted
from streamguard.protocols import (
    audiohook,
    audiosocket,
    chan_websocket,
    digest,
    freeswitch,
    http_signature,
    ip_fragments,
    media_order,
    multipart,
    packets,
    rs_metadata,
    rtcp,
    rtp,
    sdp,
    sip_calls,
    sip_message,
    sip_values,
    srtp,
    tcp_stream,
    telnyx,
    twilio,
    vonage,
    xml_tree,
)
from streamguard.protocols.call_builder import CallBuilder
from streamguard.protocols.call_legs import CallRules
from streamguard.protocols.media_session import MediaSession
from streamguard.protocols.pcap import CaptureParser, Frame
from streamguard.protocols.rtp_codecs import COMFORT_NOISE, DTMF, PCMA, PCMU, PayloadFormat
from streamguard.protocols.rtp_stream import MAX_GAP_S, RtpStream
from streamguard.protocols.sdp_formats import formats_of
from tests.fuzz import pieces
from tests.protocols.siprec_rig import UDP, Rig

FORMATS: dict[int, PayloadFormat] = {0: PCMU, 8: PCMA, 13: COMFORT_NOISE, 101: DTMF}
TRACKS: Mapping[str, LegRole] = {"inbound": LegRole.CALLER, "outbound": LegRole.CALLEE}
CHANNELS: Mapping[str, LegRole] = {"external": LegRole.CALLER, "internal": LegRole.CALLEE}
MAX_CALLS = 10
_NOW_UTC = 1_700_000_000.0


@dataclass(frozen=True, slots=True)
class Target:
    """One parser."""

    run: Callable[[bytes], object]
    modules: tuple[str, ...]
    raises: type[Exception] | tuple[type[Exception], ...] = ()
    """What it declares."""

    def __call__(self, data: bytes) -> None:
        """Raises what a parser must not."""
        try:
            self.run(data)
        except self.raises:
            return


def _pcap(data: bytes) -> None:
    parser = CaptureParser()
    whole = parser.feed(data)
    parser.finish()
    by_piece = CaptureParser()
    cut = [frame for at in range(0, len(data), 13) for frame in by_piece.feed(data[at : at + 13])]
    by_piece.finish()
    assert cut == whole
    assert sum(len(frame.data) for frame in whole) <= len(data)


def _packets(data: bytes) -> None:
    for link_type in (0, 1, 12, 101, 108, 113, 147, 276):
        packet = packets.parse_frame(link_type, data)
        if isinstance(packet, packets.IpPacket):
            packets.parse_transport(packet)


def _fragments(data: bytes) -> None:
    assembler = ip_fragments.FragmentAssembler(Counter())
    for number, piece in enumerate(pieces.split(data)):
        packet = packets.parse_frame(101, piece)
        if isinstance(packet, packets.IpPacket):
            assembler.push(packet, number * 0.1)
    assert len(assembler) <= ip_fragments.MAX_PENDING


def _tcp(data: bytes) -> None:
    connections = tcp_stream.SipConnections(Counter())
    for piece in pieces.split(data):
        packet = packets.parse_frame(101, piece)
        content = packets.parse_transport(packet) if isinstance(packet, packets.IpPacket) else None
        if isinstance(content, packets.Segment):
            connections.push(content)
    assert len(connections) <= tcp_stream.MAX_CONNECTIONS


def _sip_calls(data: bytes) -> None:
    calls = sip_calls.SipCalls(Counter())
    for piece in pieces.split(data):
        try:
            message = sip_message.parse_message(piece)
        except ProtocolError:
            continue
        calls.message(message)
        calls.speaker(("192.0.2.1", 40_000), ("192.0.2.2", 50_000))
    assert len(calls) <= sip_calls.MAX_CALLS


def _calls(data: bytes) -> None:
    """Frames of raw IP, 20 ms apart: the whole way from a capture to events."""
    rules = CallRules(FORMATS, LegRole.UNKNOWN, 3, 0.06, 1.0, 2.0, 16)
    numbers = iter(range(1 << 30))
    builder = CallBuilder("fuzz", rules, Counter(), lambda: str(next(numbers)))
    events = []
    now = 0.0
    for piece in pieces.split(data):
        now += 0.02
        events += builder.frame(Frame(round(now * 1e9), 101, piece), now)
        events += builder.tick(now)
        assert builder.legs_active <= rules.max_legs
    events += builder.finish(now)
    assert builder.legs_active == 0
    begun = Counter(event.leg for event in events if isinstance(event, LegStarted))
    ended = Counter(event.leg for event in events if isinstance(event, LegEnded))
    assert begun == ended
    _check_positions(events)


def _rtp(data: bytes) -> None:
    found = rtp.parse(data)
    if isinstance(found, rtp.RtpPacket):
        assert rtp.parse(rtp.build_packet(found)) == found
        rtp.parse_telephone_event(found.payload)


def _rtp_stream(data: bytes) -> None:
    """Each piece: when it comes after the one before (units of 4 ms), then a datagram."""
    drops: Counter[str] = Counter()
    stream = RtpStream("leg", FORMATS, drops)
    events: list[object] = []
    now = 0.0
    for piece in pieces.split(data):
        now += piece[0] / 250 if piece else 0.0
        packet = rtp.parse(piece[1:])
        if isinstance(packet, rtp.RtpPacket):
            events += stream.receive(packet, now)
        events += stream.poll(now)
        assert stream.held <= 64
    events += stream.flush()
    _check_positions(events)
    gaps = [event.count for event in events if isinstance(event, Gap)]
    assert max(gaps, default=0) <= MAX_GAP_S * 8_000


def _check_positions(events: Sequence[object]) -> None:
    """Of each leg, every sample is in exactly one event."""
    at: Counter[str] = Counter()
    for event in events:
        if isinstance(event, Audio | Gap):
            size = len(event.samples) if isinstance(event, Audio) else event.count
            assert size > 0
            assert event.first_sample == at[event.leg]
            at[event.leg] += size


def _sip_stream(data: bytes) -> None:
    stream = sip_message.SipStream()
    for at in range(0, len(data), 100):
        stream.feed(data[at : at + 100])


def _sip_values(data: bytes) -> None:
    text = data.decode("latin-1")
    sip_values.parse_params(text)
    for parse in (
        sip_values.split_list,
        sip_values.parse_via,
        sip_values.parse_name_addr,
        sip_values.parse_cseq,
        sip_values.split_host_port,
    ):
        try:
            parse(text)
        except ProtocolError:
            continue


def _sdp(data: bytes) -> None:
    for line in sdp.parse_sdp(data).media:
        formats_of(line, Counter())


def _multipart(data: bytes) -> None:
    kind, _, body = data.partition(b"\n")
    parts = multipart.parse_body(kind.decode("latin-1"), body)
    assert len(parts) <= multipart.MAX_PARTS


def _metadata(data: bytes) -> None:
    found = rs_metadata.parse_metadata(data)
    for labels in ([], ["1"], ["1", "2"], [None, None]):
        roles = rs_metadata.speakers(found, labels)
        assert len(roles) == len(labels)
    rs_metadata.speakers(rs_metadata.merge(found, rs_metadata.with_gtd(found, data)), ["a", "b"])


def _siprec(data: bytes) -> None:
    """Messages to a recording server, a second apart."""
    rig = Rig(max_calls=MAX_CALLS)
    for number, piece in enumerate(pieces.split(data)):
        try:
            message = sip_message.parse_message(piece)
        except ProtocolError:
            continue
        rig.server.receive(message, UDP, 100.0 + number)
        rig.server.poll(100.0 + number)
        assert rig.server.calls <= MAX_CALLS


def _digest(data: bytes) -> None:
    gate = digest.DigestGate("realm", {"user": "secret"})
    gate.check(data.decode("latin-1"), "INVITE", 0.0)


def _srtp(data: bytes) -> None:
    srtp.parse_inline(data.decode("latin-1"))


def _signature(data: bytes) -> None:
    first, _, second = data.decode("latin-1").partition("\n")
    terms = http_signature.parse_signature(first, second)
    http_signature.verify(terms, b"key", {"host": "h"}, "/p?q=1", frozenset(), _NOW_UTC, 60.0)


def _order(data: bytes) -> None:
    order: media_order.MessageOrder[int] = media_order.MessageOrder(0.2)
    given = 0
    for number, piece in enumerate(pieces.split(data)):
        given += len(order.push(int.from_bytes(piece[:4], "big"), number, number * 0.02))
    order.flush()


def _session(make: Callable[[], MediaSession], data: bytes) -> None:
    """Each piece: 0 text, 1 binary, else time passes; 20 ms apart."""
    session = make()
    now = 0.0
    begun: Counter[str] = Counter()
    ended: Counter[str] = Counter()
    events: list[object] = []
    for piece in pieces.split(data):
        now += 0.02
        match piece[:1]:
            case b"\0":
                outcome = session.text(piece[1:].decode("utf-8", "replace"), now)
            case b"\1":
                outcome = session.binary(piece[1:], now)
            case _:
                outcome = session.tick(now)
        events += outcome.events
    events += session.end(EndReason.HANGUP, now).events
    for event in events:
        if isinstance(event, LegStarted):
            begun[event.leg] += 1
        elif isinstance(event, LegEnded):
            ended[event.leg] += 1
    assert begun == ended
    assert sum(isinstance(event, CallEnded) for event in events) <= 1


def _audiosocket(data: bytes) -> None:
    session = audiosocket.AudioSocketSession("fuzz", Counter(), LegRole.UNKNOWN)
    for at in range(0, len(data), 50):
        session.feed(data[at : at + 50], at / 1_000)
    session.end(EndReason.HANGUP, len(data) / 1_000)


_SESSIONS: dict[str, tuple[Callable[[], MediaSession], tuple[str, ...]]] = {
    "twilio": (
        lambda: twilio.twilio_session("fuzz", Counter(), TRACKS),
        ("twilio", "numbered_media", "media_order", "json_fields"),
    ),
    "telnyx": (lambda: telnyx.TelnyxSession("fuzz", Counter(), TRACKS, 0.2), ("telnyx",)),
    "vonage": (lambda: vonage.VonageSession("fuzz", Counter(), LegRole.CALLER), ("vonage",)),
    "freeswitch": (
        lambda: freeswitch.FreeswitchSession("fuzz", Counter(), freeswitch.Mix.STEREO, 8_000),
        ("freeswitch",),
    ),
    "chan_websocket": (
        lambda: chan_websocket.ChanWebsocketSession("fuzz", Counter(), LegRole.CALLER, "out"),
        ("chan_websocket",),
    ),
    "audiohook": (
        lambda: audiohook.AudioHookSession("fuzz", Counter(), CHANNELS),
        ("audiohook", "media_session", "media_call"),
    ),
}

TARGETS: dict[str, Target] = {
    "pcap": Target(_pcap, ("pcap",)),
    "packets": Target(_packets, ("packets",)),
    "ip_fragments": Target(_fragments, ("ip_fragments",)),
    "tcp_stream": Target(_tcp, ("tcp_stream",)),
    "sip_calls": Target(_sip_calls, ("sip_calls", "sdp_formats")),
    "call_builder": Target(_calls, ("call_builder", "call_legs", "captured")),
    "rtp": Target(_rtp, ("rtp",)),
    "rtcp": Target(rtcp.parse_rtcp, ("rtcp",)),
    "rtp_stream": Target(_rtp_stream, ("rtp_stream", "jitter")),
    "sip_message": Target(sip_message.parse_message, ("sip_message",), ProtocolError),
    "sip_stream": Target(_sip_stream, ("sip_message",), ProtocolError),
    "sip_values": Target(_sip_values, ("sip_values",), ProtocolError),
    "sdp": Target(_sdp, ("sdp",), ProtocolError),
    "multipart": Target(_multipart, ("multipart",), ProtocolError),
    "xml": Target(xml_tree.parse_xml, ("xml_tree",), ProtocolError),
    "rs_metadata": Target(_metadata, ("rs_metadata",), ProtocolError),
    "siprec": Target(
        _siprec,
        (
            "siprec_server",
            "siprec_call",
            "siprec_offer",
            "siprec_refusals",
            "siprec_session",
            "sip_answers",
            "sip_dialog",
            "sip_transaction",
        ),
    ),
    "digest": Target(_digest, ("digest",), ProtocolError),
    "srtp": Target(_srtp, ("srtp",), ProtocolError),
    "http_signature": Target(_signature, ("http_signature",), ProtocolError),
    "media_order": Target(_order, ("media_order",)),
    "audiosocket": Target(_audiosocket, ("audiosocket",)),
    **{
        name: Target(functools.partial(_session, make), modules)
        for name, (make, modules) in _SESSIONS.items()
    },
}

NOT_FUZZED = {
    "handshake": "headers of a request that aiohttp has parsed; fuzzed in test_media_fuzz.py",
    "rtp_codecs": "tables; what SDP says of them comes in by the target 'sdp'",
    "siprec_rules": "settings",
}
"""Modules of the protocol layer that take no bytes from outside, and why."""
