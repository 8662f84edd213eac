from __future__ import annotations

from collections import Counter

import pytest

from streamguard.events import Identity, IdentityKind, LegRole
from streamguard.protocols import sip_calls
from streamguard.protocols.sip_calls import Change, ChangeKind, Side, SipCalls
from streamguard.protocols.sip_message import parse_message
from tools.sip_call import SipCall

CALL = SipCall()
CALLER, CALLEE = CALL.caller_media, CALL.callee_media
ELSEWHERE = ("203.0.113.9", 6_000)


@pytest.fixture
def drops() -> Counter[str]:
    return Counter()


def hear(calls: SipCalls, *messages: bytes) -> list[Change]:
    return [change for one in messages for change in calls.message(parse_message(one))]


def kinds(changes: list[Change]) -> list[ChangeKind]:
    quiet = (ChangeKind.DESCRIBED, ChangeKind.ANSWERED)
    return [change.kind for change in changes if change.kind not in quiet]


def role(calls: SipCalls, source: tuple[str, int], target: tuple[str, int]) -> LegRole | None:
    speaker = calls.speaker(source, target)
    return speaker.role if speaker is not None else None


def test_who_sends_to_the_answer_is_the_caller(drops: Counter[str]) -> None:
    calls = SipCalls(drops)
    hear(calls, CALL.invite(), CALL.answer(), CALL.ack())
    assert role(calls, CALLER, CALLEE) is LegRole.CALLER
    assert role(calls, CALLEE, CALLER) is LegRole.CALLEE
    # Behind address translation one end is another: the end that is known tells.
    assert role(calls, ELSEWHERE, CALLEE) is LegRole.CALLER
    assert role(calls, CALLER, ELSEWHERE) is LegRole.CALLER
    assert role(calls, ELSEWHERE, ("203.0.113.9", 7_000)) is None


def test_who_is_on_a_leg_is_known_and_not_shown(drops: Counter[str]) -> None:
    calls = SipCalls(drops)
    hear(calls, CALL.invite(), CALL.answer())
    for flow, uri in (((CALLER, CALLEE), "alice"), ((CALLEE, CALLER), "bob")):
        speaker = calls.speaker(*flow)
        assert speaker is not None
        assert [one.value for one in speaker.identities] == [f"sip:{uri}@example.com"]
        assert uri not in repr(speaker.identities)


@pytest.mark.parametrize("answer", [CALL.answer(), CALL.ack()])
def test_a_call_is_answered_by_its_200_or_by_the_ack_to_one_that_was_missed(
    answer: bytes, drops: Counter[str]
) -> None:
    calls = SipCalls(drops)
    hear(calls, CALL.invite(), CALL.answer("183 Session Progress"))
    speaker = calls.speaker(CALLEE, CALLER)
    assert speaker is not None
    assert not speaker.answered
    assert Change(ChangeKind.ANSWERED, CALL.call_id) in hear(calls, answer)
    speaker = calls.speaker(CALLEE, CALLER)
    assert speaker is not None
    assert speaker.answered
    assert Change(ChangeKind.ANSWERED, CALL.call_id) not in hear(calls, CALL.answer(), CALL.ack())


def test_the_ack_of_a_refusal_is_no_answer(drops: Counter[str]) -> None:
    calls = SipCalls(drops)
    said = hear(calls, CALL.invite(), CALL.refusal("407 Authenticate"), CALL.ack())
    assert Change(ChangeKind.ANSWERED, CALL.call_id) not in said


def test_what_is_sent_is_decoded_as_its_receiver_described(drops: Counter[str]) -> None:
    calls = SipCalls(drops)
    hear(calls, CALL.invite(), CALL.answer())
    speaker = calls.speaker(CALLER, CALLEE)
    assert speaker is not None
    assert {number: one.name for number, one in speaker.formats.items()} == {
        0: "PCMU",
        8: "PCMA",
        13: "CN",
        101: "telephone-event",
    }
    assert not speaker.encrypted


def test_an_offer_that_comes_late_is_the_callees(drops: Counter[str]) -> None:
    calls = SipCalls(drops)
    empty = CALL.invite().replace(CALL.offer(), b"")
    empty = empty.replace(f"Content-Length: {len(CALL.offer())}".encode(), b"Content-Length: 0")
    hear(calls, empty, CALL.answer())
    ack = CALL.ack().replace(b"Content-Length: 0\r\n\r\n", b"")
    ack += b"Content-Type: application/sdp\r\n"
    ack += f"Content-Length: {len(CALL.offer())}\r\n\r\n".encode() + CALL.offer()
    hear(calls, ack)
    assert role(calls, CALLER, CALLEE) is LegRole.CALLER
    assert role(calls, CALLEE, CALLER) is LegRole.CALLEE


def test_roles_stay_when_the_callee_offers_anew(drops: Counter[str]) -> None:
    calls = SipCalls(drops)
    hear(calls, CALL.invite(), CALL.answer(), CALL.ack())
    moved = SipCall(caller_media=("192.0.2.2", 50_002))  # where the callee now receives
    hear(
        calls,
        CALL.request_of_callee("INVITE", 1, moved.offer())
        .replace(b"CSeq: 1 INVITE\r\n", b"CSeq: 1 INVITE\r\nContent-Type: application/sdp\r\n", 1)
        .replace(b"Content-Type: application/sdp\r\nContent-Type", b"Content-Type", 1),
    )
    assert role(calls, CALLER, ("192.0.2.2", 50_002)) is LegRole.CALLER
    assert role(calls, CALLEE, CALLER) is LegRole.CALLEE


def test_a_capture_that_begins_in_mid_call_knows_no_roles(drops: Counter[str]) -> None:
    calls = SipCalls(drops)
    hear(calls, CALL.invite(again=True), CALL.answer())
    assert role(calls, CALLER, CALLEE) is LegRole.UNKNOWN
    hear(SipCalls(drops), CALL.answer(), CALL.bye())  # of a call that nobody heard begin
    assert not drops


@pytest.mark.parametrize(
    ("answer", "end"),
    [
        (CALL.answer(), CALL.bye()),
        (CALL.answer(), CALL.request_of_callee("BYE", 7)),
        (CALL.answer("183 Session Progress"), CALL.cancel()),
    ],
)
def test_a_call_ends_from_either_side(answer: bytes, end: bytes, drops: Counter[str]) -> None:
    calls = SipCalls(drops)
    hear(calls, CALL.invite(), answer)
    assert hear(calls, end) == [Change(ChangeKind.ENDED, CALL.call_id)]
    assert calls.speaker(CALLER, CALLEE) is None
    assert len(calls) == 0


def test_a_cancel_that_crosses_the_answer_ends_nothing(drops: Counter[str]) -> None:
    calls = SipCalls(drops)
    assert kinds(hear(calls, CALL.invite(), CALL.answer(), CALL.cancel())) == []


def test_a_refusal_after_early_media_ends_the_call(drops: Counter[str]) -> None:
    calls = SipCalls(drops)
    hear(calls, CALL.invite(), CALL.answer("183 Session Progress"))
    assert role(calls, CALLEE, CALLER) is LegRole.CALLEE
    assert kinds(hear(calls, CALL.refusal("486 Busy Here"))) == [ChangeKind.ENDED]


def test_a_challenge_or_another_branchs_refusal_ends_nothing(drops: Counter[str]) -> None:
    calls = SipCalls(drops)
    hear(calls, CALL.invite(), CALL.refusal("407 Proxy Authentication Required"))
    hear(calls, CALL.ack(), CALL.invite(cseq=2), CALL.answer(cseq=2))
    other = CALL.refusal("486 Busy Here", cseq=2).replace(b"tag=callee", b"tag=elsewhere")
    assert kinds(hear(calls, other)) == []
    assert role(calls, CALLER, CALLEE) is LegRole.CALLER
    # Nor does the refusal of a later offer: the call goes on as it was.
    assert kinds(hear(calls, CALL.invite(again=True, cseq=3), CALL.refusal("488 No", cseq=3))) == []


def test_hold_and_resume_are_told_of_the_side_that_asked(drops: Counter[str]) -> None:
    calls = SipCalls(drops)
    hear(calls, CALL.invite(), CALL.answer(), CALL.ack())
    held = hear(calls, CALL.invite(direction="sendonly", cseq=2, again=True))
    assert Change(ChangeKind.HELD, CALL.call_id, Side.CALLER, 0) in held
    speaker = calls.speaker(CALLER, CALLEE)
    assert speaker is not None
    assert speaker.held
    hear(calls, CALL.answer(cseq=2, direction="recvonly"), CALL.ack(2))
    back = hear(calls, CALL.invite(cseq=3, again=True), CALL.answer(cseq=3))
    assert kinds(back) == [ChangeKind.RESUMED]


def test_an_address_of_zeros_is_hold_and_loses_nobody(drops: Counter[str]) -> None:
    calls = SipCalls(drops)
    hear(calls, CALL.invite(), CALL.answer(), CALL.ack())
    zeros = CALL.invite(cseq=2, again=True).replace(
        b"c=IN IP4 192.0.2.1", b"c=IN IP4 0.0.0.0\r\nb="
    )
    zeros = zeros.replace(b"0.0.0.0\r\nb=", b"0.0.0.0  ")  # of the same length
    assert kinds(hear(calls, zeros)) == [ChangeKind.HELD]
    assert role(calls, CALLEE, CALLER) is LegRole.CALLEE


def test_a_port_that_a_later_call_uses_is_the_later_calls(drops: Counter[str]) -> None:
    calls = SipCalls(drops)
    later = SipCall(call_id="later", caller_media=("192.0.2.3", 1_000))
    hear(calls, CALL.invite(), CALL.answer(), later.invite(), later.answer())
    speaker = calls.speaker(ELSEWHERE, CALLEE)
    assert speaker is not None
    assert speaker.call_id == "later"
    hear(calls, CALL.bye())
    assert calls.speaker(ELSEWHERE, CALLEE) is not None


def test_a_line_of_srtp_says_so(drops: Counter[str]) -> None:
    calls = SipCalls(drops)
    hear(
        calls, CALL.invite(), CALL.answer().replace(b"RTP/AVP", b"RTP/SAVP").replace(b"s=-", b"s=")
    )
    speaker = calls.speaker(CALLER, CALLEE)
    assert speaker is not None
    assert speaker.encrypted


METADATA = """<recording xmlns="urn:ietf:params:xml:ns:recording:1"><datamode>complete</datamode>
<participant participant_id="p1"><nameID aor="sip:alice@example.com"/></participant>
<participant participant_id="p2"><nameID aor="sip:bob@example.com"/></participant>
<stream stream_id="s1" session_id="x"><label>1</label></stream>
<stream stream_id="s2" session_id="x"><label>2</label></stream>
<participantstreamassoc participant_id="p1"><send>s2</send></participantstreamassoc>
<participantstreamassoc participant_id="p2"><send>s1</send></participantstreamassoc>
</recording>"""


def recording(*, metadata: bool = True) -> bytes:
    sdp = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
    for port, label in ((41_000, 1), (41_002, 2)):
        sdp += f"m=audio {port} RTP/AVP 8\r\na=sendonly\r\na=label:{label}\r\n"
    parts = [("application/sdp", sdp)]
    if metadata:
        parts.append(("application/rs-metadata+xml", METADATA))
    body = "".join(f"--b\r\nContent-Type: {kind}\r\n\r\n{text}\r\n" for kind, text in parts)
    body += "--b--\r\n"
    head = CALL.invite().partition(b"Content-Type")[0].decode() + "Require: siprec\r\n"
    head += f"Content-Type: multipart/mixed;boundary=b\r\nContent-Length: {len(body)}\r\n\r\n"
    return (head + body).encode()


def recorder_answer() -> bytes:
    sdp = "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\n"
    for port in (42_000, 42_002):
        sdp += f"m=audio {port} RTP/AVP 8\r\na=recvonly\r\n"
    head = CALL.answer().partition(b"Content-Length")[0].decode()
    return (head + f"Content-Length: {len(sdp)}\r\n\r\n" + sdp).encode()


def test_a_recording_session_names_who_speaks_by_its_metadata(drops: Counter[str]) -> None:
    calls = SipCalls(drops)
    assert kinds(hear(calls, recording(), recorder_answer())) == []  # sendonly is no hold here
    assert role(calls, ("192.0.2.1", 41_000), ("192.0.2.9", 42_000)) is LegRole.CALLEE
    assert role(calls, ("192.0.2.1", 41_002), ("192.0.2.9", 42_002)) is LegRole.CALLER
    for ports, user in (((41_000, 42_000), "bob"), ((41_002, 42_002), "alice")):
        speaker = calls.speaker(("192.0.2.1", ports[0]), ("192.0.2.9", ports[1]))
        assert speaker is not None
        assert speaker.identities == (Identity(IdentityKind.NUMBER, user),)


def test_a_recording_session_without_metadata_names_nobody(drops: Counter[str]) -> None:
    calls = SipCalls(drops)
    hear(calls, recording(metadata=False), recorder_answer())
    assert role(calls, ("192.0.2.1", 41_000), ("192.0.2.9", 42_000)) is LegRole.UNKNOWN


def test_calls_and_their_addresses_are_bounded(
    drops: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sip_calls, "MAX_CALLS", 50)
    calls = SipCalls(drops)
    for number in range(200):
        hear(
            calls,
            SipCall(call_id=f"call-{number}", caller_media=("192.0.2.1", number + 1)).invite(),
        )
    assert len(calls) == 50
    assert drops == {"sip_calls": 150}
    assert calls.speaker(ELSEWHERE, ("192.0.2.1", 1)) is None
    assert calls.speaker(ELSEWHERE, ("192.0.2.1", 200)) is not None
    one = SipCalls(drops)
    for number in range(200):
        hear(one, SipCall(caller_media=("192.0.2.1", number + 1)).invite(cseq=number + 1))
    known = [one.speaker(ELSEWHERE, ("192.0.2.1", port)) for port in range(1, 201)]
    assert len([speaker for speaker in known if speaker]) == sip_calls.MAX_ENDPOINTS


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (CALL.invite().replace(b"Call-ID", b"Call-XX"), "sip_no_call_id"),
        (CALL.invite().replace(b"CSeq: 1", b"CSeq: x"), "sip_cseq"),
        (CALL.invite().replace(b"From: <", b'From: "'), "sip_quotes"),
        (CALL.invite().replace(b"m=audio 40000", b"m=audio 99999"), "sdp_media"),
        (CALL.invite().replace(b"a84b4c76e66710", b"x" * 300), "sip_no_call_id"),
    ],
)
def test_what_cannot_be_read_is_counted(bad: bytes, reason: str, drops: Counter[str]) -> None:
    calls = SipCalls(drops)
    assert kinds(hear(calls, bad)) == []
    assert drops == {reason: 1}
    assert calls.speaker(CALLEE, CALLER) is None
