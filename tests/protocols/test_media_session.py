"""What holds for every dialect of media connections."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from streamguard.events import Audio, CallEnded, EndReason, LegRole
from streamguard.protocols.chan_websocket import ChanWebsocketSession
from streamguard.protocols.freeswitch import FreeswitchSession, Mix
from streamguard.protocols.media_session import MAX_MALFORMED, MediaSession
from streamguard.protocols.vonage import VonageSession

START = {
    "vonage": '{"event": "websocket:connected", "content-type": "audio/l16;rate=8000"}',
    "asterisk": "MEDIA_START connection_id:x channel:y format:slin",
    "freeswitch": "{}",
}
DIGIT = {
    "vonage": '{"event": "websocket:dtmf", "digit": "1", "duration": 100}',
    "asterisk": "DTMF_END digit:1",
    "freeswitch": "text of the dial plan",
}


def session(dialect: str, drops: Counter[str]) -> MediaSession:
    match dialect:
        case "vonage":
            return VonageSession("cloud", drops, LegRole.CALLER)
        case "asterisk":
            return ChanWebsocketSession("cloud", drops, LegRole.CALLER)
        case _:
            return FreeswitchSession("cloud", drops, Mix.MONO, 8_000)


@pytest.mark.parametrize("dialect", START)
def test_what_comes_after_the_end_of_a_call_says_nothing_of_it(dialect: str) -> None:
    """A peer that is hung up on may have sent more by the time that it hears of it."""
    one = session(dialect, Counter())
    one.text(START[dialect], 0.0)
    assert any(isinstance(event, Audio) for event in one.binary(bytes(320), 0.1).events)
    assert isinstance(one.end(EndReason.INACTIVITY, 60.0).events[-1], CallEnded)
    assert one.binary(bytes(320), 60.1).events == ()
    assert one.text(DIGIT[dialect], 60.2).events == ()
    assert one.tick(60.3).events == ()
    assert one.end(EndReason.HANGUP, 60.4).events == ()


def test_only_messages_in_a_row_that_make_no_sense_close_a_connection() -> None:
    """A provider may come to send something new, once a minute, in a call of hours."""
    drops: Counter[str] = Counter()
    one = session("vonage", drops)
    one.text(START["vonage"], 0.0)
    news = json.dumps({"event": "websocket:news"})
    for number in range(3 * MAX_MALFORMED):
        one.binary(bytes(320), float(number))
        assert one.text(news, float(number)).close is None
    for _ in range(MAX_MALFORMED - 1):
        one.tick(1_000.0)
        outcome = one.text(news, 1_000.0)
    assert outcome.close == "too_malformed"
    assert drops["unknown_event"] == 4 * MAX_MALFORMED - 1
