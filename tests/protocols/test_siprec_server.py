"""The session recording server, request by request."""

from __future__ import annotations

import pytest

from streamguard.events import CallEnded, EndReason, LegEnded, LegRole
from streamguard.protocols.digest import Algorithm, DigestGate, parse_authorization, respond
from streamguard.protocols.sdp import Direction
from streamguard.protocols.sip_message import SipRequest, SipResponse
from tests.protocols.siprec_rig import (
    METADATA,
    TCP,
    TWO_LINES,
    UDP,
    Rig,
    answer_of,
    mixed,
    tag_of,
)

UP = ["call", "leg0 caller PCMU", "leg1 callee PCMU"]


def ended(why: str) -> list[str]:
    return [f"leg0 ended {why}", f"leg1 ended {why}", f"call ended {why}"]


# Beginning and ending.


def test_a_recorded_call_begins_with_its_legs_and_ends_with_bye() -> None:
    rig = Rig()
    ok = rig.call()
    assert rig.story() == UP
    assert rig.server.calls == 1
    bye = rig.ask(rig.inside(ok, "BYE"))
    assert bye.status == 200
    assert rig.story() == UP + ended("hangup")
    assert rig.server.calls == 0
    assert rig.media.lines == {}


def test_the_invite_is_answered_by_trying_and_then_ok_at_once() -> None:
    rig = Rig()
    rig.invite()
    assert [m.status for m in rig.messages() if isinstance(m, SipResponse)] == [100, 200]
    trying, ok = rig.messages()
    assert "tag" not in (trying.headers.get("to") or "")
    assert "+sip.srs" in (ok.headers.get("contact") or "")
    assert "siprec" in ok.headers.tokens("supported")


def test_events_name_the_call_by_an_opaque_id() -> None:
    rig = Rig()
    rig.call()
    assert {leg.call for leg in rig.legs()} == {"id1"}
    assert not any("1001" in repr(event) or "src" in repr(event) for event in rig.events)


def test_cancel_ends_the_call_and_bye_follows_when_its_ack_is_there() -> None:
    rig = Rig()
    ok = rig.invite(branch="z9hG4bKsame")
    cancel = rig.request("CANCEL", branch="z9hG4bKsame")
    assert rig.ask(cancel).status == 200
    assert rig.story() == UP + ended("hangup")
    assert rig.requests() == []  # not before the ACK (RFC 3261 section 15)
    rig.tell(rig.inside(ok, "ACK", 1))
    assert [request.method for request in rig.requests()] == ["BYE"]
    assert rig.server.calls == 0


@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
def test_a_call_that_was_cancelled_takes_no_new_offer(method: str) -> None:
    rig = Rig()
    ok = rig.invite(branch="z9hG4bKsame")
    rig.ask(rig.request("CANCEL", branch="z9hG4bKsame"))
    late = rig.inside(ok, method, body=mixed(TWO_LINES, METADATA))
    assert rig.ask(late).status == 481
    assert rig.media.lines == {}
    rig.tell(rig.inside(ok, "ACK", 1))
    assert rig.story() == UP + ended("hangup")
    assert rig.server.calls == 0


def test_cancel_of_something_unknown_is_refused() -> None:
    assert Rig().ask(Rig().request("CANCEL", branch="z9hG4bKnone")).status == 481


def test_cancel_of_a_later_invite_ends_nothing() -> None:
    rig = Rig()
    ok = rig.call()
    again = rig.inside(ok, "INVITE", body=mixed(TWO_LINES), branch="z9hG4bKagain")
    assert rig.ask(again).status == 200
    cancel = rig.inside(ok, "CANCEL", branch="z9hG4bKagain")
    assert rig.ask(cancel).status == 200
    assert rig.story() == UP


def test_silence_on_every_line_ends_the_call_and_the_peer_is_told() -> None:
    rig = Rig(inactivity_s=30.0)
    rig.call()
    rig.wait(29.0)
    assert rig.story() == UP
    rig.wait(2.0)
    assert rig.story() == UP + ended("inactivity")
    assert [request.method for request in rig.requests()] == ["BYE"]


def test_one_line_that_is_heard_keeps_the_call() -> None:
    rig = Rig(inactivity_s=30.0)
    rig.call()
    leg = rig.legs()[1].leg
    for _ in range(10):
        rig.media.heard_at[leg] = rig.now
        rig.wait(20.0)
    assert rig.story() == UP


def test_announced_silence_is_waited_out_for_longer() -> None:
    rig = Rig(inactivity_s=30.0, silence_inactivity_s=100.0)
    rig.call()
    rig.media.silent.add(rig.legs()[0].leg)
    rig.wait(90.0)
    assert rig.story() == UP
    rig.wait(11.0)
    assert rig.story()[-1] == "call ended inactivity"


def test_an_answer_that_is_never_acknowledged_is_sent_again_and_then_given_up() -> None:
    rig = Rig(inactivity_s=1000.0)
    rig.invite()
    rig.wait(31.0)
    answers = [m for m in rig.messages() if isinstance(m, SipResponse) and m.status == 200]
    # 0, 0.5, 1.5, 3.5, 7.5 and then every 4 s (RFC 3261 section 13.3.1.4).
    assert len(answers) == 5 + 5
    assert len({send.data for send in rig.sent if b"200 OK" in send.data}) == 1
    rig.wait(2.0)
    assert rig.story() == UP + ended("inactivity")
    assert [request.method for request in rig.requests()] == ["BYE"]


def test_an_acknowledged_answer_is_not_sent_again() -> None:
    rig = Rig(inactivity_s=1000.0)
    rig.call()
    count = len(rig.sent)
    rig.wait(60.0)
    assert len(rig.sent) == count


def test_the_same_invite_again_opens_no_second_call() -> None:
    rig = Rig()
    rig.invite(branch="z9hG4bKone")
    count = len(rig.sent)
    for _ in range(5):
        again = rig.request(
            headers={"require": "siprec"}, body=mixed(TWO_LINES), branch="z9hG4bKone"
        )
        rig.tell(again)
    assert len(rig.legs()) == 2
    assert len(rig.sent) == count


def test_our_bye_is_sent_again_until_it_is_answered() -> None:
    rig = Rig(inactivity_s=1.0)
    rig.call()
    rig.wait(4.6)
    (bye,) = rig.requests()
    assert len([send for send in rig.sent if send.data.startswith(b"BYE")]) >= 3
    assert (bye.uri, bye.headers.get("cseq")) == ("sip:src@192.0.2.1:5060", "1 BYE")
    fields = tuple((k, v) for k, v in bye.headers if k in ("via", "from", "to", "call-id", "cseq"))
    rig.tell(SipResponse(200, "OK", type(bye.headers)(fields)))
    count = len(rig.sent)
    rig.wait(30.0)
    assert len(rig.sent) == count


def test_a_closed_connection_leaves_its_calls_alone_unless_told_otherwise() -> None:
    for end_on_disconnect, expected in ((False, UP), (True, UP + ended("source_lost"))):
        rig = Rig(end_on_disconnect=end_on_disconnect)
        rig.invite(flow=TCP)
        rig.server.disconnected(TCP, rig.now)
        assert rig.story() == expected


def test_when_the_source_goes_every_peer_gets_a_bye_and_nothing_is_told() -> None:
    rig = Rig()
    rig.call()
    rig.server.hang_up_all(rig.now)
    assert [request.method for request in rig.requests()] == ["BYE"]
    assert not any(isinstance(event, LegEnded | CallEnded) for event in rig.events)


# Changing.


def test_inactive_lines_are_on_hold_until_they_send_again() -> None:
    rig = Rig()
    ok = rig.call()
    held = TWO_LINES.replace("a=sendonly\na=label:1", "a=inactive\na=label:1")
    answer = rig.ask(rig.inside(ok, "INVITE", 2, body=mixed(held)))
    directions = [line.direction for line in answer_of(answer).media]
    assert directions == [Direction.INACTIVE, Direction.RECVONLY]
    rig.ask(rig.inside(ok, "INVITE", 3, body=mixed(TWO_LINES)))
    assert rig.story() == [*UP, "leg0 hold", "leg0 resume"]


def test_hold_in_the_old_manner_by_an_address_of_zeros_keeps_the_line_and_its_sender() -> None:
    rig = Rig()
    ok = rig.call()
    held = TWO_LINES.replace("c=IN IP4 192.0.2.1", "c=IN IP4 0.0.0.0")
    assert rig.ask(rig.inside(ok, "INVITE", body=mixed(held))).status == 200
    assert rig.story() == [*UP, "leg0 hold", "leg1 hold"]
    assert {spec.host for spec, _ in rig.media.lines.values()} == {"192.0.2.1"}


def test_a_call_on_hold_is_silent_for_longer() -> None:
    rig = Rig(inactivity_s=30.0, silence_inactivity_s=100.0)
    ok = rig.call()
    rig.ask(rig.inside(ok, "INVITE", body=mixed(TWO_LINES.replace("sendonly", "inactive"))))
    rig.tell(rig.inside(ok, "ACK"))
    rig.wait(90.0)
    assert "call ended inactivity" not in rig.story()


def test_after_a_long_hold_the_sender_has_its_time_to_begin_again() -> None:
    rig = Rig(inactivity_s=30.0, silence_inactivity_s=300.0)
    ok = rig.call()
    rig.ask(rig.inside(ok, "INVITE", body=mixed(TWO_LINES.replace("sendonly", "inactive"))))
    rig.tell(rig.inside(ok, "ACK"))
    rig.wait(200.0)
    rig.ask(rig.inside(ok, "INVITE", 3, body=mixed(TWO_LINES)))
    rig.tell(rig.inside(ok, "ACK", 3))
    rig.wait(29.0)
    assert rig.story()[-1] == "leg1 resume"
    rig.wait(2.0)
    assert rig.story()[-1] == "call ended inactivity"


def test_a_new_participant_is_a_new_leg_of_the_same_call() -> None:
    rig = Rig()
    ok = rig.call()
    third = TWO_LINES + "m=audio 20004 RTP/AVP 8\na=sendonly\na=label:3\n"
    more = METADATA.replace(
        "</recording>",
        '<participant participant_id="c"><nameID aor="sip:1003@example.org"/></participant>'
        '<stream stream_id="sc"><label>3</label></stream>'
        '<participantstreamassoc participant_id="c"><send>sc</send></participantstreamassoc>'
        "</recording>",
    )
    answer = answer_of(rig.ask(rig.inside(ok, "INVITE", body=mixed(third, more))))
    assert rig.story() == [*UP, "leg2 callee PCMA"]
    assert [line.port for line in answer.media] == [41_000, 41_002, 41_004]
    assert len({leg.call for leg in rig.legs()}) == 1


def test_partial_metadata_alone_tells_who_speaks() -> None:
    rig = Rig()
    bare = METADATA.partition("<participantstreamassoc")[0].replace("<stream", "<other")
    ok = rig.call(metadata=bare.replace("</stream>", "</other>") + "</recording>")
    assert rig.roles() == [LegRole.UNKNOWN, LegRole.UNKNOWN]
    partial = METADATA.replace("complete", "partial")
    answer = rig.ask(rig.inside(ok, "UPDATE", body=mixed(None, partial)))
    assert (answer.status, answer.body) == (200, b"")
    assert rig.story()[-2:] == ["leg0 is caller", "leg1 is callee"]


def test_a_snapshot_in_another_order_does_not_make_the_callee_the_caller() -> None:
    """The caller hands over to somebody else: now the callee stands first in the list."""
    rig = Rig()
    ok = rig.call()
    handed_over = METADATA.replace(
        '<participant participant_id="a"><nameID aor="sip:1001@example.org"/></participant>', ""
    ).replace(
        "</datamode>",
        '</datamode><participant participant_id="b"><nameID aor="sip:1002@example.org"/>'
        '</participant><participant participant_id="a"><nameID aor="sip:1003@example.org"/>'
        "</participant>",
    )
    assert rig.ask(rig.inside(ok, "UPDATE", body=mixed(None, handed_over))).status == 200
    assert rig.story() == UP
    outright = handed_over.replace(
        '<nameID aor="sip:1002@example.org"/>',
        '<nameID aor="sip:1002@example.org"/><callingParty>true</callingParty>',
    )
    assert rig.ask(rig.inside(ok, "UPDATE", 3, body=mixed(None, outright))).status == 200
    assert rig.story() == [*UP, "leg0 is callee", "leg1 is caller"]


def test_a_line_with_port_zero_ends_its_leg_and_not_the_call() -> None:
    rig = Rig()
    ok = rig.call()
    gone = TWO_LINES.replace("m=audio 20002", "m=audio 0")
    answer = answer_of(rig.ask(rig.inside(ok, "INVITE", body=mixed(gone))))
    assert rig.story() == [*UP, "leg1 ended hangup"]
    assert [line.port for line in answer.media] == [41_000, 0]
    rig.ask(rig.inside(ok, "BYE", 3))
    assert rig.story() == [*UP, "leg1 ended hangup", "leg0 ended hangup", "call ended hangup"]


def test_a_line_that_changes_its_sender_is_renegotiated() -> None:
    rig = Rig()
    ok = rig.call()
    moved = TWO_LINES.replace("m=audio 20000 RTP/AVP 0 101", "m=audio 30000 RTP/AVP 8 101")
    answer = answer_of(rig.ask(rig.inside(ok, "UPDATE", body=mixed(moved))))
    (changed,) = rig.media.changed
    assert (changed.port, changed.announced.name) == (30_000, "PCMA")
    assert answer.media[0].port == 41_000
    assert rig.story() == UP


def test_an_answer_that_says_nothing_new_keeps_its_version() -> None:
    rig = Rig()
    ok = rig.call()
    again = rig.ask(rig.inside(ok, "INVITE", body=mixed(TWO_LINES)))
    assert again.body == ok.body
    held = rig.ask(
        rig.inside(ok, "INVITE", 3, body=mixed(TWO_LINES.replace("sendonly", "inactive")))
    )
    versions = [int(answer_of(r).origin.split()[2]) for r in (ok, held)]
    assert versions[1] == versions[0] + 1


def test_a_re_invite_without_an_offer_gets_what_was_agreed_on() -> None:
    rig = Rig()
    ok = rig.call()
    again = rig.ask(rig.inside(ok, "INVITE"))
    assert (again.status, again.body) == (200, ok.body)
    assert rig.story() == UP


def test_a_bad_offer_in_mid_call_is_refused_and_leaves_the_call_as_it_was() -> None:
    rig = Rig()
    ok = rig.call()
    fewer = TWO_LINES.partition("m=audio 20002")[0]
    assert rig.ask(rig.inside(ok, "INVITE", body=mixed(fewer))).status == 400
    assert rig.ask(rig.inside(ok, "INVITE", 3, body=mixed("v=1\n"))).status == 400
    assert rig.story() == UP
    assert len(rig.media.lines) == 2


# Refusing.


def test_a_required_extension_that_we_do_not_know_is_named_in_unsupported() -> None:
    rig = Rig()
    answer = rig.invite(headers={"require": "siprec, gruu, x-magic"})
    assert (answer.status, answer.headers.get("unsupported")) == (420, "gruu, x-magic")
    assert rig.events == []


@pytest.mark.parametrize(
    "body",
    [
        ("application/sdp", TWO_LINES.encode()),
        (
            "multipart/mixed;boundary=b",
            mixed(TWO_LINES, "<presence/>")[1]
            .replace(b"application/rs-metadata+xml", b"application/pidf+xml")
            .replace(b"recording-session", b"render"),
        ),
    ],
)
def test_an_ordinary_call_is_a_bad_extension(body: tuple[str, bytes]) -> None:
    rig = Rig()
    answer = rig.ask(rig.request(headers={"supported": "timer"}, body=body))
    assert (answer.status, answer.headers.get("unsupported")) == (420, "siprec")
    assert rig.drops == {"not_siprec": 1}
    assert rig.events == []


def test_an_invite_that_cannot_be_read_is_refused_and_takes_no_room() -> None:
    rig = Rig(max_calls=1)
    for number in range(300):
        headers = {"require": 'siprec, "'} if number % 2 else {"allow": '"'}
        answer = rig.invite(headers=headers, call_id=f"c{number}")
        assert answer.status == (400 if number < 4 * 1 + 256 else 503)
    rig.wait(33.0)
    assert rig.invite(call_id="good").status == 200


def test_metadata_alone_makes_a_call_siprec() -> None:
    rig = Rig()
    assert rig.ask(rig.request(body=mixed(TWO_LINES, METADATA))).status == 200


def test_a_call_without_metadata_is_heard_and_nobody_knows_who_speaks() -> None:
    rig = Rig()
    request = rig.request(
        headers={"require": "siprec"}, body=("application/sdp", TWO_LINES.encode())
    )
    assert rig.ask(request).status == 200
    assert rig.roles() == [LegRole.UNKNOWN, LegRole.UNKNOWN]


@pytest.mark.parametrize(
    "metadata",
    [
        '<!DOCTYPE x [<!ENTITY e "boom">]><recording>&e;</recording>',
        '<!DOCTYPE recording SYSTEM "http://192.0.2.9/evil.dtd"><recording/>',
        "<recording><datamode>complete</recording>",
        "<a>" * 40 + "</a>" * 40,
        '<recording xmlns:a="b">' + '<participant id="1"/>' * 3000 + "</recording>",
        "<recording>" + "".join(f'<participant id="{n}"/>' for n in range(33)) + "</recording>",
    ],
)
def test_metadata_that_is_refused_costs_the_roles_and_not_the_call(metadata: str) -> None:
    rig = Rig()
    assert rig.invite(TWO_LINES, metadata).status == 200
    assert rig.roles() == [LegRole.UNKNOWN, LegRole.UNKNOWN]
    assert sum(count for reason, count in rig.drops.items() if reason.startswith("metadata_")) == 1


def test_when_full_the_peer_is_told_at_once_to_ask_another() -> None:
    rig = Rig(max_calls=2)
    assert [rig.invite(call_id=f"c{n}").status for n in range(3)] == [200, 200, 503]
    refused = rig.messages()[-1]
    assert refused.headers.get("retry-after") == "7"
    assert rig.drops["busy"] == 1
    assert len(rig.legs()) == 4


def test_when_ports_run_out_the_call_is_refused_as_a_whole() -> None:
    rig = Rig(ports=3)
    assert rig.invite(call_id="one").status == 200
    assert rig.invite(call_id="two").status == 503
    assert len(rig.media.free) == 1
    assert rig.drops["no_port"] == 1
    assert rig.story() == UP


def test_draining_refuses_new_calls_and_keeps_the_others() -> None:
    rig = Rig()
    ok = rig.call()
    rig.server.refusal = "draining"
    refused = rig.invite(call_id="next")
    assert (refused.status, refused.headers.get("retry-after")) == (503, "7")
    assert rig.ask(rig.request("OPTIONS", call_id="probe")).status == 503
    assert rig.ask(rig.inside(ok, "INVITE", body=mixed(TWO_LINES))).status == 200
    assert rig.ask(rig.inside(ok, "BYE", 3)).status == 200
    rig.server.refusal = None
    assert rig.invite(call_id="later").status == 200


def test_a_refusal_is_sent_again_until_its_ack() -> None:
    rig = Rig(max_calls=1)
    rig.invite(call_id="one")
    refused = rig.invite(call_id="two", branch="z9hG4bKtwo")
    assert refused.status == 503

    def refusals() -> int:
        return sum(isinstance(m, SipResponse) and m.status == 503 for m in rig.messages())

    rig.wait(3.0)
    assert refusals() == 3  # 0, 0.5 and 1.5 s
    ack = rig.request("ACK", call_id="two", branch="z9hG4bKtwo", to_tag=tag_of(refused))
    rig.tell(ack)
    rig.wait(30.0)
    assert refusals() == 3


@pytest.mark.parametrize(
    ("sdp", "status"),
    [
        ("v=0\no=- 1 1 IN IP4 192.0.2.1\ns=-\nc=IN IP4 192.0.2.1\nt=0 0\n", 400),
        (TWO_LINES.replace("RTP/AVP 0 101", "RTP/AVP 18 101"), 488),
        (TWO_LINES.replace("m=audio", "m=video"), 488),
        (TWO_LINES.replace("192.0.2.1", "recorder.example.net"), 488),
        (TWO_LINES.replace("RTP/AVP", "RTP/SAVP"), 488),
        (TWO_LINES.replace("RTP/AVP", "UDP/TLS/TCP"), 488),
        (TWO_LINES.replace("m=audio 2", "m=audio x"), 400),
        ("x", 400),
        (None, 488),
    ],
)
def test_an_offer_without_a_line_for_us_is_refused(sdp: str | None, status: int) -> None:
    rig = Rig()
    assert rig.invite(sdp).status == status
    assert rig.events == []
    assert rig.media.lines == {}


def test_a_line_that_we_cannot_take_is_refused_by_itself() -> None:
    rig = Rig()
    half = TWO_LINES.replace("m=audio 20002 RTP/AVP 0", "m=audio 20002 RTP/AVP 18")
    answer = answer_of(rig.invite(half))
    assert [line.port for line in answer.media] == [41_000, 0]
    # Of two lines one is still one speaker, and no mixture.
    assert rig.roles() == [LegRole.CALLER]


def test_an_srtp_line_is_answered_with_a_key_of_our_own_under_its_tag() -> None:
    pytest.importorskip("pylibsrtp", reason="needs the extra 'srtp'")
    rig = Rig()
    key = "a=crypto:3 AES_CM_128_HMAC_SHA1_80 inline:" + "A" * 40 + "\n"
    weak = "a=crypto:1 F8_128_HMAC_SHA1_80 inline:" + "A" * 40 + "\n"
    sdp = TWO_LINES.replace("RTP/AVP", "RTP/SAVP").replace(
        "a=sendonly\n", f"{weak}{key}a=sendonly\n"
    )
    answer = answer_of(rig.invite(sdp))
    for line in answer.media:
        (ours,) = line.cryptos
        assert (line.protocol, ours.tag, ours.suite) == ("RTP/SAVP", 3, "AES_CM_128_HMAC_SHA1_80")
        assert ours.key_params != "inline:" + "A" * 40
    assert all(spec.crypto is not None for spec, _ in rig.media.lines.values())


@pytest.mark.parametrize(
    ("method", "status"),
    [("OPTIONS", 200), ("REGISTER", 405), ("MESSAGE", 405), ("BYE", 481), ("UPDATE", 481)],
)
def test_requests_outside_a_call_are_answered_and_forgotten(method: str, status: int) -> None:
    rig = Rig()
    answer = rig.ask(rig.request(method))
    assert answer.status == status
    if status in (200, 405):
        assert "INVITE" in (answer.headers.get("allow") or "")


def test_options_says_what_we_are() -> None:
    answer = Rig().ask(Rig().request("OPTIONS"))
    assert "siprec" in answer.headers.tokens("supported")
    assert "application/rs-metadata" in answer.headers.tokens("accept")


def test_a_request_that_lacks_what_every_request_has_is_a_bad_one() -> None:
    rig = Rig()
    fields = tuple((k, v) for k, v in rig.request().headers if k != "from")
    bad = SipRequest("INVITE", "sip:srs@198.51.100.1", type(rig.request().headers)(fields))
    assert rig.ask(bad).status == 400


def test_a_method_that_contradicts_its_cseq_is_a_bad_request() -> None:
    rig = Rig()
    request = rig.request("OPTIONS")
    fields = tuple((k, "1 INVITE" if k == "cseq" else v) for k, v in request.headers)
    assert rig.ask(SipRequest("OPTIONS", request.uri, type(request.headers)(fields))).status == 400


def test_a_call_id_beyond_all_measure_is_refused() -> None:
    assert Rig().ask(Rig().request("OPTIONS", call_id="x" * 300)).status == 400


def test_a_scheme_that_is_not_sips_is_refused() -> None:
    rig = Rig()
    request = rig.request(uri="tel:+4930555", headers={"require": "siprec"}, body=mixed(TWO_LINES))
    assert rig.ask(request).status == 416


def test_a_request_of_another_dialog_does_not_touch_a_call() -> None:
    rig = Rig()
    ok = rig.call()
    for change in ({"tag": "stranger"}, {"call_id": "other"}):
        bye = rig.request("BYE", number=2, to_tag=tag_of(ok), **change)  # type: ignore[arg-type]  # of strings only
        assert rig.ask(bye).status == 481
    assert rig.story() == UP


def test_a_request_out_of_order_is_refused() -> None:
    rig = Rig()
    ok = rig.call()
    assert rig.ask(rig.inside(ok, "UPDATE", 5)).status == 200
    assert rig.ask(rig.inside(ok, "BYE", 4)).status == 500
    assert rig.story() == UP


def test_whoever_asks_too_often_is_answered_without_being_remembered() -> None:
    rig = Rig(rate=2)
    statuses = [rig.invite(call_id=f"c{n}").status for n in range(3)]
    assert statuses == [200, 200, 503]
    count = len(rig.sent)
    rig.tell(rig.request("OPTIONS"))
    assert len(rig.sent) == count
    assert rig.drops["rate"] == 2


def test_the_same_bye_again_gets_the_same_answer() -> None:
    rig = Rig()
    ok = rig.call()
    bye = rig.inside(ok, "BYE", branch="z9hG4bKbye")
    assert rig.ask(bye) == rig.ask(bye)
    assert rig.story() == UP + ended("hangup")
    rig.wait(33.0)  # by then nobody asks again, and it is forgotten
    assert rig.ask(bye).status == 481


def test_a_refusal_over_a_connection_is_not_sent_again() -> None:
    rig = Rig(max_calls=1)
    rig.invite(call_id="one", flow=TCP)
    assert rig.invite(call_id="two", flow=TCP).status == 503
    refused = rig.sent[-1]
    rig.wait(40.0)
    assert rig.sent.count(refused) == 1


def test_a_peer_of_the_old_kind_without_branches_is_understood() -> None:
    rig = Rig()
    first = rig.invite(branch="1")
    assert rig.invite(branch="1", call_id="other").status == 200
    assert first.status == 200
    assert len(rig.legs()) == 4
    count = len(rig.sent)
    rig.tell(rig.request(headers={"require": "siprec"}, body=mixed(TWO_LINES), branch="1"))
    assert len(rig.sent) == count


def test_routes_that_were_recorded_are_kept_by_both_sides() -> None:
    rig = Rig(inactivity_s=1.0)
    ok = rig.invite(headers={"record-route": "<sip:p2.example;lr>, <sip:p1.example;lr>"})
    assert ok.headers.items("record-route") == ("<sip:p2.example;lr>", "<sip:p1.example;lr>")
    rig.tell(rig.inside(ok, "ACK", 1))
    rig.wait(2.0)
    (bye,) = rig.requests()
    assert bye.headers.all("route") == ("<sip:p2.example;lr>", "<sip:p1.example;lr>")
    assert bye.headers.get("from") == ok.headers.get("to")


def test_an_invite_without_a_contact_is_a_bad_one() -> None:
    rig = Rig()
    request = rig.request(headers={"require": "siprec"}, body=mixed(TWO_LINES))
    fields = tuple((k, v) for k, v in request.headers if k != "contact")
    bad = SipRequest("INVITE", request.uri, type(request.headers)(fields), request.body)
    assert rig.ask(bad).status == 400
    assert rig.media.lines == {}


def test_a_call_on_hold_from_its_beginning_has_legs_on_hold() -> None:
    rig = Rig()
    rig.call(TWO_LINES.replace("sendonly", "inactive"))
    assert rig.story() == [UP[0], UP[1], "leg0 hold", UP[2], "leg1 hold"]


def test_a_call_whose_lines_are_all_gone_waits_for_new_ones() -> None:
    rig = Rig(inactivity_s=10.0, silence_inactivity_s=100.0)
    ok = rig.call()
    none = TWO_LINES.replace("m=audio 20000", "m=audio 0").replace("m=audio 20002", "m=audio 0")
    assert rig.ask(rig.inside(ok, "INVITE", body=mixed(none))).status == 200
    rig.tell(rig.inside(ok, "ACK"))
    rig.wait(90.0)
    rig.ask(rig.inside(ok, "UPDATE", 3, body=mixed(TWO_LINES)))
    assert rig.story()[-2:] == ["leg2 caller PCMU", "leg3 callee PCMU"]


# Session timers.


def test_a_peer_that_knows_timers_is_asked_to_refresh() -> None:
    rig = Rig(session_expires_s=600)
    ok = rig.invite(headers={"supported": "timer"})
    assert ok.headers.get("session-expires") == "600;refresher=uac"


def test_no_session_is_shorter_than_the_least_that_the_peer_takes() -> None:
    ok = Rig(session_expires_s=600).invite(headers={"supported": "timer", "min-se": "900"})
    assert ok.headers.get("session-expires") == "900;refresher=uac"


def test_a_session_that_is_not_refreshed_ends_before_it_expires() -> None:
    rig = Rig(inactivity_s=3600.0)
    ok = rig.invite(headers={"supported": "timer", "session-expires": "90"})
    rig.tell(rig.inside(ok, "ACK", 1))
    rig.wait(59.0)
    assert rig.story() == UP
    rig.ask(rig.inside(ok, "UPDATE", headers={"supported": "timer", "session-expires": "90"}))
    rig.wait(59.0)
    assert rig.story() == UP
    rig.wait(2.0)
    assert rig.story() == UP + ended("inactivity")


def test_a_shorter_session_than_the_least_is_refused_with_the_least() -> None:
    rig = Rig()
    answer = rig.invite(headers={"supported": "timer", "session-expires": "30"})
    assert (answer.status, answer.headers.get("min-se")) == (422, "90")
    assert rig.events == []


def test_where_it_is_for_us_to_refresh_we_do_by_update() -> None:
    rig = Rig(inactivity_s=3600.0)
    ok = rig.invite(
        headers={"supported": "timer", "session-expires": "100;refresher=uas", "allow": "UPDATE"}
    )
    assert ok.headers.get("session-expires") == "100;refresher=uas"
    rig.tell(rig.inside(ok, "ACK", 1))
    rig.wait(51.0)
    update = rig.requests()[0]
    assert update.method == "UPDATE"
    assert update.headers.get("session-expires") == "100;refresher=uac"
    fields = tuple(
        (k, v) for k, v in update.headers if k in ("via", "from", "to", "call-id", "cseq")
    )
    rig.tell(SipResponse(200, "OK", type(update.headers)(fields)))
    rig.wait(40.0)
    assert rig.story() == UP


@pytest.mark.parametrize("status", [422, 491, 500])
def test_a_refresh_that_is_refused_is_tried_again_before_the_session_expires(status: int) -> None:
    rig = Rig(inactivity_s=3600.0)
    ok = rig.invite(
        headers={"supported": "timer", "session-expires": "100;refresher=uas", "allow": "UPDATE"}
    )
    rig.tell(rig.inside(ok, "ACK", 1))
    for answer, number in ((status, 1), (200, 2)):
        rig.wait(51.0 if number == 1 else 11.0)
        update = rig.requests()[-1]
        assert (update.method, update.headers.get("cseq")) == ("UPDATE", f"{number} UPDATE")
        fields = [(k, v) for k, v in update.headers if k in ("via", "from", "to", "call-id")]
        fields += [("cseq", f"{number} UPDATE")]
        fields += [("min-se", "150")] if answer == 422 else []
        rig.tell(SipResponse(answer, "Whatever", type(update.headers)(tuple(fields))))
    least, interval = ("150", "150") if status == 422 else ("90", "100")
    assert update.headers.get("session-expires") == f"{interval};refresher=uac"
    assert update.headers.get("min-se") == least
    rig.wait(45.0)
    assert rig.story() == UP


@pytest.mark.parametrize("status", [408, 481])
def test_a_peer_that_knows_nothing_of_the_call_any_more_has_ended_it(status: int) -> None:
    rig = Rig(inactivity_s=3600.0)
    ok = rig.invite(
        headers={"supported": "timer", "session-expires": "100;refresher=uas", "allow": "UPDATE"}
    )
    rig.tell(rig.inside(ok, "ACK", 1))
    rig.wait(51.0)
    update = rig.requests()[0]
    fields = tuple(
        (k, v) for k, v in update.headers if k in ("via", "from", "to", "call-id", "cseq")
    )
    rig.tell(SipResponse(status, "Gone", type(update.headers)(fields)))
    assert rig.story() == UP + ended("inactivity")


# Logging in.


def test_a_peer_has_to_log_in_where_passwords_are_set() -> None:
    rig = Rig(gate=DigestGate("rec", {"sbc": "secret"}))
    challenge = rig.invite()
    assert challenge.status == 401
    offered = [parse_authorization(v) for v in challenge.headers.all("www-authenticate")]
    assert [one["algorithm"] for one in offered] == ["SHA-256", "MD5"]
    for number, fields in enumerate(offered, 2):
        fields |= {
            "username": "sbc",
            "uri": "sip:srs",
            "nc": "00000001",
            "cnonce": "c",
            "qop": "auth",
        }
        answer = respond(fields, "INVITE", "secret", Algorithm(fields["algorithm"]))
        written = ", ".join(f'{k}="{v}"' for k, v in {**fields, "response": answer}.items())
        request = rig.request(
            number=number,
            call_id=f"c{number}",
            headers={"require": "siprec", "authorization": f"Digest {written}"},
            body=mixed(TWO_LINES),
        )
        if number == 2:
            assert rig.ask(request).status == 200
        else:  # the nonce is shared by both algorithms, and its count was used
            again = rig.ask(request)
            assert again.status == 401
            assert "stale=true" in (again.headers.get("www-authenticate") or "")


def test_challenges_leave_nothing_behind() -> None:
    rig = Rig(gate=DigestGate("rec", {"sbc": "secret"}))
    for number in range(500):
        assert rig.invite(call_id=f"c{number}").status == 401
    rig.wait(1.0)
    assert len(rig.sent) == 500  # none is sent again: there is no transaction


def test_calls_of_strangers_cannot_grow_without_bound() -> None:
    rig = Rig(max_calls=1)
    statuses = [rig.invite(call_id=f"c{n}").status for n in range(400)]
    assert statuses.count(200) == 1
    assert statuses.count(503) == 399
    # Refusals are transactions up to a limit, and answered without one beyond it.
    before = len(rig.sent)
    rig.wait(0.6)
    assert len(rig.sent) - before <= 4 * 1 + 256


def test_a_call_ends_by_bye_however_many_strangers_there_are() -> None:
    rig = Rig(max_calls=1)
    ok = rig.call()
    for number in range(400):
        rig.invite(call_id=f"c{number}")
    bye = rig.inside(ok, "BYE", branch="z9hG4bKbye")
    assert rig.ask(bye).status == 200
    assert rig.story() == UP + ended("hangup")
    assert rig.server.calls == 0


def test_answers_go_where_the_via_says_and_to_nobody_else() -> None:
    rig = Rig()
    request = rig.request("OPTIONS")
    fields = tuple(
        (
            k,
            "SIP/2.0/UDP victim.example:9;branch=z9hG4bKx;maddr=203.0.113.9;rport"
            if k == "via"
            else v,
        )
        for k, v in request.headers
    )
    rig.ask(SipRequest("OPTIONS", request.uri, type(request.headers)(fields)))
    (sent,) = rig.sent
    assert (sent.flow.host, sent.flow.port) == (UDP.host, UDP.port)
    (answer,) = rig.messages()
    via = answer.headers.get("via") or ""
    assert "rport=5060" in via
    assert "received=192.0.2.1" in via


def test_the_end_of_a_leg_says_why() -> None:
    rig = Rig(inactivity_s=1.0)
    rig.call()
    rig.wait(2.0)
    reasons = {e.reason for e in rig.events if isinstance(e, LegEnded | CallEnded)}
    assert reasons == {EndReason.INACTIVITY}
