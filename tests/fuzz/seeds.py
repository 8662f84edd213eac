"""What the fuzzers begin with: good inputs of our own making, and what once broke something.

The good ones are made here and from the fixtures in ``tests/data``. To them are added
``tests/data/fuzz/<target>.bin``, inputs with which ``tools.fuzz --keep`` reached more of the code
(in the form of ``pieces``), and the files in ``tests/data/fuzz/<target>``: the place for an input
that found a defect.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from streamguard.protocols.rtcp import build_bye
from streamguard.protocols.rtp import build_packet
from streamguard.protocols.sip_message import serialise
from tests.captures import PACKET_S, rtp_packets, sip_call, tone
from tests.fuzz.pieces import join, split
from tests.protocols.media_play import transcript
from tests.protocols.siprec_rig import DIALECTS, METADATA, TWO_LINES, Rig, crlf, fixture, mixed
from tools import capture_writer as writer
from tools.impairment.network import jittered
from tools.impairment.stream import clean_stream, comfort_noise, telephone_events
from tools.sip_call import SipCall

CORPUS = Path(__file__).parent.parent / "data" / "fuzz"
_CALL = SipCall()
_SIP = (
    _CALL.invite(),
    _CALL.answer(),
    _CALL.ack(),
    _CALL.invite(direction="sendonly", cseq=2, again=True),
    _CALL.answer(cseq=2),
    _CALL.bye(3),
)
_VALUES = (
    b'"Alice, A." <sip:alice@[2001:db8::1]:5060;transport=tcp>;tag=x;lr',
    b"SIP/2.0/TCP 192.0.2.1:5060;branch=z9hG4bK1;rport",
    b"314159 INVITE",
)
_DIGEST = (
    b'Digest username="user", realm="realm", nonce="0.1.ab", uri="sip:x", response="00", '
    b'algorithm=SHA-256, qop=auth, nc=00000001, cnonce="c"'
)
_SIGNATURE = (
    b'sig1=:AAAA:\nsig1=("@request-target" "host");created=1700000000;expires=1700000010;'
    b'nonce="0123456789012345678901";keyid="k";alg="hmac-sha256"'
)


def seeds(target: str) -> list[bytes]:
    """At least one input that its parser takes."""
    kept = CORPUS / f"{target}.bin"
    grown = split(kept.read_bytes()) if kept.is_file() else ()
    found = sorted((CORPUS / target).glob("*"))
    return [*made(target), *grown, *(path.read_bytes() for path in found)]


def made(target: str) -> list[bytes]:
    """Those that are made here."""
    return _MAKERS[target]() if target in _MAKERS else _session(target)


def _capture() -> list[writer.Captured]:
    return sip_call(tone(0.2), tone(0.1))


def _captures() -> list[bytes]:
    frames = _capture()[:4]
    return [
        writer.pcap_bytes(frames, 101),
        writer.pcap_bytes(frames, 101, order=">", nanoseconds=True),
        writer.pcapng_bytes(frames, 101),
        writer.pcapng_bytes(frames, 101, order=">", resolution=0x89, simple=True),
    ]


def _frames() -> list[bytes]:
    packet, packet_6 = _capture()[0].data[:200], writer.udp(("::1", 1), ("::2", 2), b"x")
    return [
        packet,
        packet_6,
        writer.ethernet(packet, (0x88A8, 1), (0x8100, 2)),
        writer.sll(packet),
        writer.sll2(packet_6),
        writer.null(packet),
        writer.tcp(("192.0.2.1", 1), ("192.0.2.2", 2), 1, b"x"),
    ]


def _fragments() -> list[bytes]:
    packet = writer.udp(("192.0.2.1", 5060), ("192.0.2.2", 5060), _SIP[0])
    parts = writer.fragments(packet, 200, 9)
    return [join(parts), join(reversed(parts)), join([*parts[:2], *parts])]


def _segments() -> list[bytes]:
    data = b"".join(_SIP)
    ends = (_CALL.caller, _CALL.callee)
    parts = [writer.tcp(*ends, at, data[at : at + 500]) for at in range(0, len(data), 500)]
    return [join(parts), join([parts[0], parts[2], parts[1], *parts[3:]])]


def _streams() -> list[bytes]:
    random = np.random.default_rng(1)
    clean = clean_stream(tone(0.5), random)
    quiet = clean_stream((tone(0.6) * (np.arange(4_800) < 1_600)).astype(np.int16), random)
    streams = (
        clean,
        jittered(clean, random, 0.03),
        comfort_noise(quiet, random),
        telephone_events(clean, random, every_s=0.2, length=4),
    )
    found = []
    for stream in streams:
        times = [one.at_s for one in stream]
        steps = np.diff([0.0, *times])
        found.append(
            join(
                bytes([min(255, round(250 * step))]) + build_packet(one.packet)
                for step, one in zip(steps, stream, strict=True)
            )
        )
    return found


def _siprec() -> list[bytes]:
    rig = Rig()
    kind = mixed(TWO_LINES, METADATA)
    good = [
        serialise(rig.request(body=kind, headers={"require": "siprec"})),
        serialise(rig.request("OPTIONS", call_id="o")),
        serialise(rig.request("BYE", number=2)),
        serialise(rig.request("CANCEL")),
    ]
    return [join(good), *(join([fixture(name)]) for name in DIALECTS)]


def _multipart() -> list[bytes]:
    kind, body = mixed(TWO_LINES, METADATA)
    return [kind.encode() + b"\n" + body, b"application/sdp\n" + crlf(TWO_LINES)]


def _rtp() -> list[bytes]:
    packet = build_packet(rtp_packets(tone(PACKET_S))[0])
    extended = b"\xb1" + packet[1:12] + b"\0\0\0\1" + b"\xbe\xde\0\1abcd" + packet[12:40] + b"\0\2"
    return [packet, extended, build_bye(7)]


def _session(dialect: str) -> list[bytes]:
    """Transcripts, shortened: nearly all of them is audio."""
    names = {"chan_websocket": ("asterisk_plain", "asterisk_json")}.get(dialect, (dialect,))
    found = []
    for name in names:
        messages = transcript(name)
        chosen = [*messages[:12], *messages[-4:]]
        found.append(
            join(
                b"\0" + one.content.encode()
                if isinstance(one.content, str)
                else b"\1" + one.content
                for one in chosen
            )
        )
    return found


_MAKERS: dict[str, Callable[[], list[bytes]]] = {
    "pcap": _captures,
    "packets": _frames,
    "ip_fragments": _fragments,
    "tcp_stream": _segments,
    "sip_calls": lambda: [join(_SIP)],
    "call_builder": lambda: [join(frame.data for frame in _capture())],
    "rtp": _rtp,
    "rtcp": lambda: [build_bye(7), b"\x81\xc8\0\x0c" + bytes(48)],
    "rtp_stream": _streams,
    "sip_message": lambda: list(_SIP),
    "sip_stream": lambda: [b"\r\n\r\n".join(_SIP)],
    "sip_values": lambda: list(_VALUES),
    "sdp": lambda: [_CALL.offer(), crlf(TWO_LINES)],
    "multipart": _multipart,
    "xml": lambda: [METADATA.encode()],
    "rs_metadata": lambda: [METADATA.encode()],
    "siprec": _siprec,
    "digest": lambda: [_DIGEST],
    "srtp": lambda: [b"inline:" + b"A" * 40 + b"|2^31"],
    "http_signature": lambda: [_SIGNATURE],
    "media_order": lambda: [join(bytes([0, 0, 0, number]) for number in (1, 2, 4, 3, 9, 5))],
    "audiosocket": lambda: [(CORPUS.parent / "audiosocket" / "call.bin").read_bytes()[:4_000]],
}
