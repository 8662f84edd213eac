"""Anything at all over a media connection: no exception, no endless growth, no broken call.

The corpus is the transcripts in ``tests/data``: cut, repeated, out of order and damaged, and mixed
with JSON that is made of the words of the protocols.
"""

from __future__ import annotations

import json
import random
import string
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamguard.errors import ProtocolError
from streamguard.events import (
    Audio,
    CallEnded,
    CallStarted,
    EndReason,
    Gap,
    LegEnded,
    LegRole,
    LegStarted,
    MediaChanged,
    SegmentStarted,
    SourceEvent,
)
from streamguard.protocols.audiohook import AudioHookSession
from streamguard.protocols.audiosocket import AudioSocketSession
from streamguard.protocols.chan_websocket import ChanWebsocketSession
from streamguard.protocols.freeswitch import FreeswitchSession, Mix
from streamguard.protocols.handshake import (
    AudioHookCheck,
    Check,
    Handshake,
    JwtCheck,
    TokenCheck,
    TwilioCheck,
)
from streamguard.protocols.http_signature import parse_signature
from streamguard.protocols.media_order import CAPACITY
from streamguard.protocols.media_session import MediaSession
from streamguard.protocols.telnyx import TelnyxSession
from streamguard.protocols.twilio import twilio_session
from streamguard.protocols.vonage import VonageSession
from tests.protocols.media_play import DATA, transcript
from tests.protocols.test_http_signature import GENESYS

EXAMPLES = 40
"""Per dialect, of 30 messages each."""

TRACKS = {"inbound": LegRole.CALLER, "outbound": LegRole.CALLEE}
CHANNELS = {"external": LegRole.CALLER, "internal": LegRole.CALLEE}

DIALECTS: dict[str, tuple[Callable[[], MediaSession], tuple[str, ...]]] = {
    "twilio": (lambda: twilio_session("s", Counter(), TRACKS), ("twilio",)),
    "telnyx": (lambda: TelnyxSession("s", Counter(), TRACKS, 0.2), ("telnyx", "twilio")),
    "vonage": (lambda: VonageSession("s", Counter(), LegRole.CALLER), ("vonage",)),
    "freeswitch": (
        lambda: FreeswitchSession("s", Counter(), Mix.STEREO, 8_000),
        ("freeswitch",),
    ),
    "asterisk": (
        lambda: ChanWebsocketSession("s", Counter(), LegRole.CALLER, "out"),
        ("asterisk_plain", "asterisk_json"),
    ),
    "audiohook": (lambda: AudioHookSession("s", Counter(), CHANNELS), ("audiohook",)),
}
WORDS = (
    *("event", "start", "media", "stop", "dtmf", "connected", "track", "inbound", "chunk"),
    *("payload", "timestamp", "sequenceNumber", "sequence_number", "mediaFormat", "media_format"),
    *("encoding", "PCMU", "L16", "OPUS", "G722", "sample_rate", "channels", "version", "2"),
    *("type", "open", "close", "ping", "paused", "resumed", "discarded", "parameters", "seq"),
    *("id", "30b0e395-84d3-4570-ac13-9a62d8f514c0", "PT1S", "external", "format", "rate_hz"),
    *("MEDIA_START", "MEDIA_START format:opus", "DTMF_END", "slin192", "mix", "stereo"),
    *("websocket:connected", "content-type", "audio/l16;rate=8000", "custom_parameters"),
)
SEEDS = st.integers(0, 2**32)
"""Of the dice that make the messages: to have Hypothesis draw every word of them takes ten times as
long as to hear them."""


def invented(dice: random.Random, depth: int = 0) -> Any:
    """A value for JSON, made of the words of the protocols."""
    kind = dice.randrange(8 if depth < 3 else 5)
    if kind < 2:
        return dice.choice(WORDS)
    if kind == 2:
        return dice.choice((None, True, 0, -1, 7, 1 << 70, 1e300, float("nan"), "7", "-1", ""))
    if kind == 3:
        return "".join(dice.choice(string.printable + "é\ud800\u202e") for _ in range(8))
    if kind == 4:
        return dice.randrange(-(1 << 33), 1 << 33)
    if kind == 5:
        return [invented(dice, depth + 1) for _ in range(dice.randrange(4))]
    return {dice.choice(WORDS): invented(dice, depth + 1) for _ in range(dice.randrange(7))}


def damaged(dice: random.Random, message: str | bytes) -> str | bytes:
    """The message with something in it replaced, left out or repeated."""
    first = dice.randrange(len(message) + 1)
    last = min(len(message), first + dice.randrange(12))
    if isinstance(message, bytes):
        return message[:first] + dice.randbytes(dice.randrange(12)) + message[last:]
    inserted = "".join(dice.choice(string.printable) for _ in range(dice.randrange(6)))
    return message[:first] + inserted + message[last:]


def messages_of(dice: random.Random, corpus: list[str | bytes], count: int) -> list[str | bytes]:
    """Of the corpus, damaged, or invented; often with a beginning that makes sense."""
    messages = corpus[:2] if dice.random() < 0.7 else []
    for _ in range(count):
        roll = dice.random()
        if roll < 0.4:
            messages.append(dice.choice(corpus))
        elif roll < 0.7:
            messages.append(damaged(dice, dice.choice(corpus)))
        elif roll < 0.95:
            messages.append(json.dumps(invented(dice)))
        else:
            messages.append(dice.randbytes(dice.randrange(700)))
    return messages


def check_life(events: list[SourceEvent]) -> None:
    """One call at most, begun before its legs and ended after them; positions without holes."""
    assert [type(e) for e in events if isinstance(e, CallStarted | CallEnded)] in (
        [],
        [CallStarted, CallEnded],
    )
    legs = [event.leg for event in events if isinstance(event, LegStarted)]
    assert len(legs) == len(set(legs)) <= 2
    assert sorted(e.leg for e in events if isinstance(e, LegEnded)) == sorted(legs)
    position = dict.fromkeys(legs, 0)
    for event in events:
        match event:
            case Audio():
                assert event.first_sample == position[event.leg]
                position[event.leg] += len(event.samples)
            case Gap():
                assert event.first_sample == position[event.leg]
                position[event.leg] += event.count
            case SegmentStarted():
                assert event.first_sample >= position[event.leg]
                position[event.leg] = event.first_sample
            case MediaChanged():
                return  # another rate, another count
            case _:
                pass


@pytest.mark.parametrize("dialect", DIALECTS)
@settings(max_examples=EXAMPLES)
@given(seed=SEEDS)
def test_no_message_breaks_a_session(dialect: str, seed: int) -> None:
    dice = random.Random(seed)
    make, names = DIALECTS[dialect]
    corpus = [message.content for name in names for message in transcript(name)]
    session = make()
    events: list[SourceEvent] = []
    now = 0.0
    for message in messages_of(dice, corpus, 30):
        now += dice.choice((0.0, 0.02, 0.3, 5.0))
        if isinstance(message, str):
            outcome = session.text(message, now)
        else:
            outcome = session.binary(message, now)
        events += outcome.events
        assert len(outcome.events) <= 8 + 4 * CAPACITY
        assert all(json.loads(reply) for reply in outcome.replies if reply.startswith("{"))
        events += session.tick(now).events
    events += session.end(EndReason.HANGUP, now).events
    check_life(events)


RECORDING: bytes = (DATA / "audiosocket" / "call.bin").read_bytes()


@settings(max_examples=EXAMPLES)
@given(SEEDS)
def test_no_bytes_break_an_audiosocket(seed: int) -> None:
    dice = random.Random(seed)
    session = AudioSocketSession("s", Counter(), LegRole.CALLER)
    events: list[SourceEvent] = []
    for index in range(20):
        first = dice.randrange(len(RECORDING)) if dice.random() < 0.5 else 0
        part = RECORDING[first : first + dice.randrange(700)]
        if dice.random() < 0.3:
            part = bytes(damaged(dice, part))  # type: ignore[arg-type]  # bytes stay bytes
        events += session.feed(part, 0.02 * index).events
    events += session.end(EndReason.HANGUP, 1.0).events
    check_life(events)


CHECKS: tuple[Check, ...] = (
    TokenCheck("secret"),
    TwilioCheck("secret", "wss://guard.example.com/"),
    JwtCheck("secret"),
    AudioHookCheck("key", b"secret"),
    AudioHookCheck("key", None),
)
HEADERS = ("Basic YTpi", "Bearer e30.e30.e30", "Bearer a.b.c", *GENESYS.values())
NAMES = ("authorization", "x-twilio-signature", "x-api-key", "signature", "signature-input", "host")


@settings(max_examples=4 * EXAMPLES)
@given(SEEDS)
def test_no_header_opens_or_breaks_a_door(seed: int) -> None:
    dice = random.Random(seed)
    headers = {
        name: str(damaged(dice, dice.choice(HEADERS)) if dice.random() < 0.8 else "\udcff" * 9)
        for name in NAMES
        if dice.random() < 0.7
    }
    for check in CHECKS:
        with pytest.raises(ProtocolError):
            check(Handshake(headers, "/"), 1_700_000_000.0)


@settings(max_examples=4 * EXAMPLES)
@given(SEEDS)
def test_a_damaged_signature_is_read_or_refused(seed: int) -> None:
    dice = random.Random(seed)
    terms = str(damaged(dice, GENESYS["signature-input"]))
    signature = str(damaged(dice, GENESYS["signature"])) if seed % 2 else GENESYS["signature"]
    try:
        read = parse_signature(signature, terms)
    except ProtocolError:
        return
    assert len(read.components) == len(set(read.components))
    again = parse_signature(signature, f"{signature.partition('=')[0].strip()}={read.base}")
    assert again == read  # what is signed is one text, however it was written


@given(st.text(max_size=80), st.text(max_size=80))
def test_no_text_breaks_the_reading_of_signatures(signature: str, terms: str) -> None:
    with pytest.raises(ProtocolError):
        parse_signature(signature, terms)
