"""Genesys AudioHook: the transactions, and the audio between them."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np
import pytest

from streamguard.audio.g711 import decode_ulaw, encode_ulaw
from streamguard.events import (
    CallEnded,
    CallStarted,
    EndReason,
    Gap,
    GapReason,
    Hold,
    LegRole,
    Resume,
    SegmentStarted,
)
from streamguard.protocols.audiohook import AudioHookSession
from tests.protocols.media_play import FIRST_HZ, SECOND_HZ, Message, Played, play, sine, transcript
from tests.sources.collect import samples_of

ROLES = {"external": LegRole.CALLER, "internal": LegRole.CALLEE}
ID = "30b0e395-84d3-4570-ac13-9a62d8f514c0"
NOBODY = "00000000-0000-0000-0000-000000000000"


def session(drops: Counter[str] | None = None, **more: Any) -> AudioHookSession:
    return AudioHookSession("cloud", Counter() if drops is None else drops, ROLES, **more)


def media(media_format: str = "PCMU", *channels: str, rate: int = 8000) -> dict[str, Any]:
    return {"type": "audio", "format": media_format, "channels": list(channels), "rate": rate}


BOTH = media("PCMU", "external", "internal")


def message(kind: str, number: int, **parameters: Any) -> str:
    fields = {"version": "2", "type": kind, "id": ID, "seq": number, "serverseq": 0}
    return json.dumps({**fields, "position": "PT0S", "parameters": parameters})


def opening(offer: list[Any] | None = None, **more: Any) -> str:
    values = {"organizationId": "org", "conversationId": "c", "participant": {"id": "p"}, **more}
    return message("open", 1, media=[BOTH] if offer is None else offer, **values)


def replies(played: Played) -> list[dict[str, Any]]:
    return [json.loads(reply) for reply in played.replies]


def test_a_session_is_opened_answered_paused_and_closed() -> None:
    drops: Counter[str] = Counter()
    played = play(session(drops), transcript("audiohook"))
    answers = replies(played)
    assert [answer["type"] for answer in answers] == ["opened", "pong", "closed"]
    assert [answer["seq"] for answer in answers] == [1, 2, 3]
    assert [answer["clientseq"] for answer in answers] == [1, 2, 7]
    assert {(answer["version"], answer["id"]) for answer in answers} == {("2", ID)}
    assert answers[0]["parameters"] == {"media": [BOTH], "startPaused": False}
    assert played.close == "end"
    assert not drops


def test_customer_and_agent_are_two_legs_and_what_was_discarded_is_a_gap() -> None:
    played = play(session(), transcript("audiohook"))
    legs = {leg.role: leg for leg in played.legs()}
    gap = np.zeros(2_000 + 8_000)  # 0.25 s discarded, then 1 s of pause
    for role, hertz in ((LegRole.CALLER, FIRST_HZ), (LegRole.CALLEE, SECOND_HZ)):
        leg = legs[role]
        assert (leg.codec, leg.rate_hz) == ("PCMU", 8_000)
        heard = decode_ulaw(encode_ulaw(sine(8_000, 4_800, hertz))).astype(np.float64)
        expected = np.concatenate([heard[:3_200], gap, heard[3_200:]])
        np.testing.assert_array_equal(samples_of(played.events, leg.leg), expected)
    assert {(g.count, g.reason) for g in played.of(Gap)} == {
        (2_000, GapReason.LOST),
        (8_000, GapReason.LOST),
    }


def test_the_number_of_the_customer_is_for_the_policy_alone() -> None:
    played = play(session(), transcript("audiohook"))
    numbers = {leg.role: [one.value for one in leg.identities] for leg in played.legs()}
    assert numbers == {LegRole.CALLER: ["+1-555-555-1234"], LegRole.CALLEE: []}
    assert "555" not in repr(played.legs())


def test_a_pause_holds_both_legs_until_they_resume() -> None:
    line = session()
    played = play(line, transcript("audiohook")[:8], end=False)
    assert len(played.of(Hold)) == 2
    assert played.of(Resume) == []
    assert line.on_hold
    played = play(session(), transcript("audiohook"))
    assert len(played.of(Resume)) == 2
    order = [type(event) for event in played.events if isinstance(event, Hold | Gap | Resume)]
    assert order[2:] == [Hold, Hold, Gap, Resume, Gap, Resume]


def test_the_first_offer_with_both_parties_is_taken() -> None:
    stereo_l16 = media("L16", "external", "internal")
    for offer, chosen in (
        ([media("PCMU", "external"), stereo_l16, BOTH], stereo_l16),
        ([media("PCMU", "internal")], media("PCMU", "internal")),
        ([media("OPUS", "external", "internal"), BOTH], BOTH),
        ([media("PCMU", "external", "internal", rate=16_000), "x", None, BOTH], BOTH),
    ):
        (answer,) = replies(play(session(), [Message(0.0, opening(offer))], end=False))
        assert answer["parameters"]["media"] == [chosen]


@pytest.mark.parametrize("offer", [[], [media("OPUS", "external")], [{"channels": {}}], "PCMU"])
def test_an_offer_without_anything_usable_is_turned_away(offer: Any) -> None:
    drops: Counter[str] = Counter()
    line = session(drops)
    played = play(line, [Message(0.0, opening(offer)), Message(0.1, message("close", 2))])
    disconnect, closed = replies(played)
    assert (disconnect["type"], disconnect["parameters"]["reason"]) == ("disconnect", "error")
    assert closed["type"] == "closed"
    assert played.events == []
    assert drops == {"unsupported_format": 1}
    assert line.refusal


def test_a_session_for_nobody_is_answered_and_is_no_call() -> None:
    probe = opening([], conversationId=NOBODY, participant={"id": NOBODY})
    played = play(session(), [Message(0.0, probe), Message(0.1, message("close", 2))])
    assert [answer["type"] for answer in replies(played)] == ["opened", "closed"]
    assert played.events == []


def test_when_busy_a_session_is_disconnected_as_it_opens() -> None:
    line = session(busy=True)
    played = play(line, [Message(0.0, opening()), Message(0.1, message("close", 2))])
    disconnect, closed = replies(played)
    assert disconnect["type"] == "disconnect"
    assert "busy" in disconnect["parameters"]["info"]
    assert closed["type"] == "closed"
    assert played.events == []
    assert not line.started


def test_the_organization_of_the_request_must_be_that_of_the_session() -> None:
    drops: Counter[str] = Counter()
    played = play(session(drops, organization="another"), [Message(0.0, opening())])
    (disconnect,) = replies(played)
    assert disconnect["parameters"]["reason"] == "unauthorized"
    assert played.of(CallStarted) == []
    assert drops == {"unauthorized": 1}
    assert play(session(organization="org"), [Message(0.0, opening())]).of(CallStarted)


def test_the_peer_is_told_when_we_end() -> None:
    line = session()
    play(line, [Message(0.0, opening())], end=False)
    outcome = line.end(EndReason.SHUTDOWN, 1.0)
    (disconnect,) = [json.loads(reply) for reply in outcome.replies]
    assert (disconnect["type"], disconnect["parameters"]["reason"]) == ("disconnect", "completed")
    assert isinstance(outcome.events[-1], CallEnded)


def test_audio_that_must_not_come_is_counted() -> None:
    drops: Counter[str] = Counter()
    line = session(drops)
    line.binary(bytes(160), 0.0)
    line.text(opening(), 0.0)
    line.binary(bytes(161), 0.1)
    line.text(message("paused", 2), 0.2)
    line.binary(bytes(160), 0.3)
    line.text(message("close", 3), 0.4)
    line.binary(bytes(160), 0.5)
    assert drops == {"before_start": 1, "odd_size": 1, "while_paused": 1, "after_stop": 1}


@pytest.mark.parametrize(
    "change",
    [
        {"version": "1"},
        {"seq": 0},
        {"seq": "x"},
        {"id": "not a uuid"},
        {"id": NOBODY},
        {"type": "dance"},
    ],
)
def test_a_message_that_is_not_of_this_session_is_counted(change: dict[str, Any]) -> None:
    drops: Counter[str] = Counter()
    line = session(drops)
    line.text(opening(), 0.0)
    outcome = line.text(json.dumps({**json.loads(message("ping", 2)), **change}), 0.1)
    assert outcome.replies == ()
    assert sum(drops.values()) == 1


def test_a_hole_in_the_numbers_is_counted_and_survived() -> None:
    drops: Counter[str] = Counter()
    line = session(drops)
    line.text(opening(), 0.0)
    (pong,) = line.text(message("ping", 9), 0.1).replies
    assert json.loads(pong)["clientseq"] == 9
    assert drops == {"sequence": 1}


def test_a_duration_out_of_reason_makes_no_hours_of_silence() -> None:
    line = session()
    play(line, [Message(0.0, opening()), Message(0.1, bytes(320))], end=False)
    outcome = line.text(message("discarded", 2, start="PT0S", discarded="PT999999999S"), 0.2)
    assert [type(event) for event in outcome.events] == [SegmentStarted, SegmentStarted]
    for text in ("PT-1S", "PT1H", "P1D", "PT٣S", "PT" + "9" * 10 + "S", ""):
        assert line.text(message("discarded", 3, discarded=text), 0.3).events == ()
