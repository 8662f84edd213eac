"""A session recording server without a network: requests in, answers and events out."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from streamguard.events import (
    CallEnded,
    CallStarted,
    Hold,
    LegEnded,
    LegRole,
    LegStarted,
    LegUpdated,
    Resume,
    SourceEvent,
)
from streamguard.protocols.digest import DigestGate
from streamguard.protocols.sdp import SessionDescription, parse_sdp
from streamguard.protocols.sip_message import (
    Headers,
    SipRequest,
    SipResponse,
    parse_message,
)
from streamguard.protocols.sip_transaction import Flow, Send
from streamguard.protocols.sip_values import parse_name_addr
from streamguard.protocols.siprec_rules import ServerRules
from streamguard.protocols.siprec_server import SiprecServer
from streamguard.protocols.siprec_session import LineSpec

DATA = Path(__file__).parent.parent / "data" / "siprec"
DIALECTS = ("oracle", "ribbon", "cisco", "broadworks", "sems", "opensips")
UDP = Flow("UDP", "192.0.2.1", 5060, 0)
TCP = Flow("TCP", "192.0.2.1", 40_001, 7)

TWO_LINES = """\
v=0
o=src 1 1 IN IP4 192.0.2.1
s=-
c=IN IP4 192.0.2.1
t=0 0
m=audio 20000 RTP/AVP 0 101
a=rtpmap:101 telephone-event/8000
a=sendonly
a=label:1
m=audio 20002 RTP/AVP 0 101
a=rtpmap:101 telephone-event/8000
a=sendonly
a=label:2
"""
METADATA = """\
<?xml version="1.0"?>
<recording xmlns="urn:ietf:params:xml:ns:recording:1">
 <datamode>complete</datamode>
 <participant participant_id="a"><nameID aor="sip:1001@example.org"/></participant>
 <participant participant_id="b"><nameID aor="sip:1002@example.org"/></participant>
 <stream stream_id="sa" session_id="s"><label>1</label></stream>
 <stream stream_id="sb" session_id="s"><label>2</label></stream>
 <participantstreamassoc participant_id="a"><send>sa</send></participantstreamassoc>
 <participantstreamassoc participant_id="b"><send>sb</send></participantstreamassoc>
</recording>
"""


def crlf(text: str) -> bytes:
    """As on the wire."""
    return text.replace("\n", "\r\n").encode()


def fixture(name: str) -> bytes:
    """A message of ``tests/data/siprec``, which has neither CRLF nor a Content-Length."""
    head, _, body = (DATA / f"{name}.sip").read_text().partition("\n\n")
    data = crlf(body)
    return crlf(f"{head}\nContent-Length: {len(data)}\n\n") + data


def mixed(sdp: str | None, metadata: str | None = None) -> tuple[str, bytes]:
    """Content type and body of an offer with metadata."""
    parts = []
    if sdp is not None:
        parts.append(f"Content-Type: application/sdp\n\n{sdp}")
    if metadata is not None:
        parts.append(
            "Content-Type: application/rs-metadata+xml\nContent-Disposition: recording-session\n\n"
            + metadata
        )
    text = "".join(f"--b\n{part}\n" for part in parts) + "--b--\n"
    return "multipart/mixed;boundary=b", crlf(text)


class FakeMedia:
    """Ports from 41000 on, as many as there are; keeps what it was asked for."""

    def __init__(self, ports: int = 100) -> None:
        self.free = [41_000 + 2 * number for number in range(ports)]
        self.lines: dict[str, tuple[LineSpec, int]] = {}
        self.changed: list[LineSpec] = []
        self.heard_at: dict[str, float] = {}
        self.silent: set[str] = set()
        self.now = 0.0

    def open(self, spec: LineSpec) -> int | None:
        if not self.free:
            return None
        port = self.free.pop(0)
        self.lines[spec.leg] = (spec, port)
        self.heard_at[spec.leg] = self.now
        return port

    def change(self, spec: LineSpec) -> None:
        self.changed.append(spec)
        self.lines[spec.leg] = (spec, self.lines[spec.leg][1])

    def close(self, leg: str) -> list[SourceEvent]:
        self.free.append(self.lines.pop(leg)[1])
        return []

    def heard(self, leg: str) -> tuple[float, bool]:
        return self.heard_at[leg], leg in self.silent


class Rig:
    """The server, its hands, and a peer's pen."""

    def __init__(
        self,
        *,
        ports: int = 100,
        gate: DigestGate | None = None,
        rate: float = 1e9,
        **rules: float | bool,
    ) -> None:
        self.now = 100.0
        self.media = FakeMedia(ports)
        self.media.now = self.now
        self.events: list[SourceEvent] = []
        self.sent: list[Send] = []
        self.drops: Counter[str] = Counter()
        self.rate = rate
        values: dict[str, float | bool] = {
            "max_calls": 10,
            "retry_after_s": 7,
            "session_expires_s": 1800,
            "inactivity_s": 30.0,
            "silence_inactivity_s": 300.0,
            "srtp": True,
            "end_on_disconnect": False,
            **rules,
        }
        self._ids = itertools.count(1)
        self._branches = itertools.count(1)
        self.server = SiprecServer("sbc", ServerRules(**values), self, self.drops, gate)  # type: ignore[arg-type]  # numbers of either kind

    # The server's hands.

    media_host = "198.51.100.1"

    def send(self, send: Send) -> None:
        self.sent.append(send)

    def emit(self, event: SourceEvent) -> None:
        self.events.append(event)

    def sent_by(self, flow: Flow) -> str:
        return "198.51.100.1:5060"

    def new_id(self) -> str:
        return f"id{next(self._ids)}"

    def allows(self, host: str, now: float) -> bool:
        self.rate -= 1
        return self.rate >= 0

    # The peer.

    def request(
        self,
        method: str = "INVITE",
        *,
        number: int = 1,
        call_id: str = "call",
        tag: str = "peer",
        to_tag: str | None = None,
        branch: str | None = None,
        uri: str = "sip:srs@198.51.100.1",
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        body: tuple[str, bytes] | None = None,
        transport: str = "UDP",
    ) -> SipRequest:
        branch = branch or f"z9hG4bK{next(self._branches)}"
        to = "<sip:srs@198.51.100.1>" + (f";tag={to_tag}" if to_tag else "")
        fields = [
            ("via", f"SIP/2.0/{transport} 192.0.2.1:5060;branch={branch}"),
            ("from", f"<sip:src@192.0.2.1>;tag={tag}"),
            ("to", to),
            ("call-id", call_id),
            ("cseq", f"{number} {method}"),
            ("contact", "<sip:src@192.0.2.1:5060>;+sip.src"),
            *(headers.items() if isinstance(headers, Mapping) else headers),
        ]
        if body is not None:
            fields.append(("content-type", body[0]))
        return SipRequest(method, uri, Headers(tuple(fields)), body[1] if body else b"")

    def invite(
        self,
        sdp: str | None = TWO_LINES,
        metadata: str | None = METADATA,
        *,
        headers: Mapping[str, str] | None = None,
        call_id: str = "call",
        flow: Flow = UDP,
        branch: str | None = None,
    ) -> SipResponse:
        """A first INVITE; the final answer to it."""
        merged = {"require": "siprec", **(headers or {})}
        request = self.request(
            headers=merged, body=mixed(sdp, metadata), call_id=call_id, branch=branch
        )
        return self.ask(request, flow)

    def ask(self, request: SipRequest, flow: Flow = UDP) -> SipResponse:
        """Send a request; the last response to it."""
        before = len(self.sent)
        self.server.receive(request, flow, self.now)
        responses = [m for m in self.messages(before) if isinstance(m, SipResponse)]
        assert responses, f"no answer to {request.method}"
        return responses[-1]

    def tell(self, request: SipRequest | SipResponse, flow: Flow = UDP) -> None:
        """Send what gets no answer."""
        self.server.receive(request, flow, self.now)

    def inside(
        self,
        ok: SipResponse,
        method: str,
        number: int = 2,
        *,
        headers: Mapping[str, str] | None = None,
        body: tuple[str, bytes] | None = None,
        branch: str | None = None,
        call_id: str = "call",
    ) -> SipRequest:
        """A request in the dialog that the answer has opened."""
        return self.request(
            method,
            number=number,
            call_id=call_id,
            to_tag=tag_of(ok),
            headers=headers or {},
            body=body,
            branch=branch,
        )

    def call(self, sdp: str = TWO_LINES, metadata: str | None = METADATA) -> SipResponse:
        """A call that is up and acknowledged; its 200."""
        ok = self.invite(sdp, metadata)
        assert ok.status == 200
        self.tell(self.inside(ok, "ACK", 1))
        return ok

    def messages(self, start: int = 0) -> list[SipRequest | SipResponse]:
        """What the server has sent."""
        return [parse_message(send.data) for send in self.sent[start:]]

    def requests(self) -> list[SipRequest]:
        """What the server has asked for, each once however often it was sent."""
        return list(dict.fromkeys(m for m in self.messages() if isinstance(m, SipRequest)))

    def wait(self, seconds: float) -> None:
        """Let time pass, in ticks of a tenth of a second."""
        for _ in range(round(seconds * 10)):
            self.now += 0.1
            self.media.now = self.now
            self.server.poll(self.now)

    # What came of it.

    def legs(self) -> list[LegStarted]:
        return [event for event in self.events if isinstance(event, LegStarted)]

    def roles(self) -> list[LegRole]:
        return [leg.role for leg in self.legs()]

    def story(self) -> list[str]:
        """The events in words, legs by their place in the order of their beginning."""
        names: dict[str, str] = {}
        out = []
        for event in self.events:
            match event:
                case CallStarted():
                    out.append("call")
                case LegStarted():
                    names[event.leg] = f"leg{len(names)}"
                    out.append(f"{names[event.leg]} {event.role} {event.codec}")
                case LegUpdated():
                    out.append(f"{names[event.leg]} is {event.role}")
                case Hold():
                    out.append(f"{names[event.leg]} hold")
                case Resume():
                    out.append(f"{names[event.leg]} resume")
                case LegEnded():
                    out.append(f"{names[event.leg]} ended {event.reason}")
                case CallEnded():
                    out.append(f"call ended {event.reason}")
        return out


def tag_of(response: SipResponse) -> str:
    tag = parse_name_addr(response.headers.get("to") or "").param("tag")
    assert tag
    return tag


def answer_of(response: SipResponse) -> SessionDescription:
    assert response.headers.get("content-type") == "application/sdp"
    return parse_sdp(response.body)
