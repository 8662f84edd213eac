"""Whatever peers send a recording server, in whatever order: it stays bounded, and its events make
sense to whoever takes them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from streamguard.events import (
    CallEnded,
    CallStarted,
    Hold,
    LegEnded,
    LegStarted,
    LegUpdated,
    Resume,
    SourceEvent,
)
from streamguard.protocols.sip_message import Headers, SipRequest, SipResponse
from tests.protocols.siprec_rig import METADATA, TCP, TWO_LINES, UDP, Rig, mixed, tag_of

MAX_CALLS = 3
METHODS = ("INVITE", "ACK", "BYE", "CANCEL", "UPDATE", "OPTIONS", "REGISTER", "PRACK")

_SDPS = st.sampled_from(
    [
        None,
        TWO_LINES,
        TWO_LINES.replace("sendonly", "inactive"),
        TWO_LINES.replace("m=audio 20002", "m=audio 0"),
        TWO_LINES.replace("m=audio 20000", "m=audio 0").replace("m=audio 20002", "m=audio 0"),
        TWO_LINES.replace("AVP 0", "AVP 18"),
        TWO_LINES.replace("192.0.2.1", "0.0.0.0"),
        TWO_LINES.replace("20000 RTP/AVP 0", "30000 RTP/AVP 8"),
        TWO_LINES + "m=audio 20004 RTP/AVP 0\na=label:3\n",
        TWO_LINES.partition("m=audio 20002")[0],
        "nonsense",
    ]
)
_METADATA = st.sampled_from(
    [
        None,
        METADATA,
        METADATA.replace("complete", "partial"),
        METADATA.replace(">sa<", ">sb<"),
        METADATA.replace("participant_id", "who"),
        "<recording>",
    ]
)
_HEADERS = st.sampled_from(
    [
        {},
        {"require": "siprec"},
        {"require": "siprec", "supported": "timer", "session-expires": "90"},
        {"require": "siprec", "supported": "timer", "session-expires": "120;refresher=uas"},
        {"require": "siprec", "supported": "timer", "session-expires": "5"},
        {"require": "siprec", "session-expires": "x"},
        {"require": "siprec, other"},
        {"require": "siprec", "content-encoding": "gzip"},
        {"require": "siprec", "allow": "UPDATE", "record-route": '<sip:a>, "'},
    ]
)


@dataclass(frozen=True)
class Step:
    """A request and a pause. One that is ``orderly`` fits to what was said before in its call."""

    method: str
    call: int
    orderly: bool
    number: int
    branch: int
    inside: bool
    sdp: str | None
    metadata: str | None
    headers: dict[str, str]
    pause_s: float


_STEPS = st.builds(
    Step,
    method=st.sampled_from(METHODS + ("INVITE",) * 6 + ("CANCEL", "ACK", "BYE")),
    call=st.integers(0, 4),
    orderly=st.integers(0, 4).map(bool),
    number=st.integers(1, 4),
    branch=st.integers(0, 3),
    inside=st.booleans(),
    sdp=st.just(TWO_LINES) | _SDPS,
    metadata=_METADATA,
    headers=st.just({"require": "siprec"}) | _HEADERS,
    pause_s=st.sampled_from([0.0] * 9 + [0.3, 5.0, 40.0]),
)


class Caller:
    """One Call-ID, as its peer sees it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.tag: str | None = None
        self.number = 0
        self.invite = (0, "")
        """Number and branch of the last."""

    def request(self, rig: Rig, step: Step) -> SipRequest:
        number, branch = step.number, f"z9hG4bK{self.name}-{step.number}-{step.branch}"
        tag = self.tag if step.inside else None
        if step.orderly:
            tag = self.tag
            if step.method in ("ACK", "CANCEL"):
                number, branch = self.invite
            else:
                self.number += 1
                number, branch = self.number, f"z9hG4bK{self.name}+{self.number}"
            if step.method == "INVITE":
                self.invite = (number, branch)
        return rig.request(
            step.method,
            call_id=self.name,
            number=number,
            to_tag=None if step.method == "CANCEL" else tag,
            branch=branch or "z9hG4bKnone",
            headers=step.headers,
            body=mixed(step.sdp, step.metadata) if step.sdp or step.metadata else None,
        )


def check_story(events: list[SourceEvent]) -> None:
    """Calls hold their legs, nothing comes twice or of what is over."""
    calls: dict[str, set[str]] = {}
    legs: dict[str, bool] = {}
    """Leg -> on hold."""
    seen: Counter[str] = Counter()
    for event in events:
        match event:
            case CallStarted():
                calls[event.call] = set()
                seen[event.call] += 1
            case LegStarted():
                calls[event.call].add(event.leg)
                legs[event.leg] = False
                seen[event.leg] += 1
            case LegUpdated():
                assert event.leg in legs
            case Hold():
                assert not legs[event.leg]
                legs[event.leg] = True
            case Resume():
                assert legs[event.leg]
                legs[event.leg] = False
            case LegEnded():
                del legs[event.leg]
                (owner,) = [names for names in calls.values() if event.leg in names]
                owner.remove(event.leg)
            case CallEnded():
                assert not calls.pop(event.call)
            case _:
                raise AssertionError(event)
    assert not calls
    assert not legs
    assert set(seen.values()) <= {1}


@settings(max_examples=60)
@given(st.lists(_STEPS, max_size=14), st.booleans())
def test_any_order_of_requests_leaves_nothing_behind(steps: list[Step], over_tcp: bool) -> None:
    rig = Rig(max_calls=MAX_CALLS, ports=5, inactivity_s=20.0, silence_inactivity_s=50.0)
    flow = TCP if over_tcp else UDP
    callers = [Caller(f"c{number}") for number in range(5)]
    for step in steps:
        caller = callers[step.call]
        before = len(rig.sent)
        rig.server.receive(caller.request(rig, step), flow, rig.now)
        for message in rig.messages(before):
            is_invite = (message.headers.get("cseq") or "").endswith("INVITE")
            if isinstance(message, SipResponse) and message.status == 200 and is_invite:
                caller.tag = tag_of(message)
        assert rig.server.calls <= MAX_CALLS
        assert len(rig.media.lines) <= 5
        rig.wait(step.pause_s)
    rig.wait(60.0)
    assert rig.server.calls == 0
    assert rig.media.lines == {}
    check_story(rig.events)
    # Requests of ours are given up, answers forgotten: a minute later all is silent.
    rig.wait(40.0)
    count = len(rig.sent)
    rig.wait(10.0)
    assert len(rig.sent) == count


@given(
    st.sampled_from(METHODS),
    st.lists(
        st.tuples(
            st.sampled_from(
                ["via", "from", "to", "call-id", "cseq", "contact", "require", "record-route"]
            ),
            st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"), max_size=30),
        ),
        max_size=5,
    ),
    st.text("sip:@<>;=x1", max_size=12),
)
def test_any_headers_are_answered_or_counted(
    method: str, changes: list[tuple[str, str]], uri: str
) -> None:
    rig = Rig()
    base = rig.request(method, headers={"require": "siprec"}, body=mixed(TWO_LINES, METADATA))
    fields = dict(base.headers.fields) | dict(changes)
    request = SipRequest(method, uri or "x", Headers(tuple(fields.items())), base.body)
    rig.tell(request)
    answers = [one.status for one in rig.messages() if isinstance(one, SipResponse)]
    assert not answers or answers[-1] >= 200  # else it would be remembered for ever
    rig.tell(SipResponse(200, "OK", request.headers))
    rig.wait(0.2)
    assert rig.sent or rig.drops or method == "ACK"
