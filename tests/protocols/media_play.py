"""Transcripts of media connections, and how to play them to a session.

A transcript (``tests/data/media_ws``, of our own making) is a line of JSON per message: ``at`` in
seconds, and ``text`` (an object stands for its JSON) or ``binary`` in base64. Its audio is a sine
per leg, so that a test knows every sample.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from streamguard.events import EndReason, LegStarted, SourceEvent
from streamguard.protocols.media_session import MediaSession, Outcome

T = TypeVar("T")

DATA = Path(__file__).parent.parent / "data"
FIRST_HZ, SECOND_HZ = 440, 700
"""What the first and the second leg of a transcript sing."""


@dataclass(frozen=True, slots=True)
class Message:
    at: float
    content: str | bytes


@dataclass(slots=True)
class Played:
    """All that came of it."""

    events: list[SourceEvent] = field(default_factory=list)
    replies: list[str] = field(default_factory=list)
    close: str | None = None

    def add(self, outcome: Outcome) -> None:
        self.events += outcome.events
        self.replies += outcome.replies
        self.close = outcome.close

    def of(self, kind: type[T]) -> list[T]:
        return [event for event in self.events if isinstance(event, kind)]

    def legs(self) -> list[LegStarted]:
        return self.of(LegStarted)


def transcript(name: str) -> list[Message]:
    """The messages of ``tests/data/media_ws/<name>.jsonl``."""
    messages = []
    for line in (DATA / "media_ws" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
        fields = json.loads(line)
        if "binary" in fields:
            content: str | bytes = base64.b64decode(fields["binary"])
        else:
            text = fields["text"]
            content = text if isinstance(text, str) else json.dumps(text)
        messages.append(Message(fields["at"], content))
    return messages


def play(session: MediaSession, messages: Iterable[Message], *, end: bool = True) -> Played:
    """Every message at its time; then the connection closes, if nobody has closed it."""
    played = Played()
    now = 0.0
    for message in messages:
        now = message.at
        if isinstance(message.content, str):
            played.add(session.text(message.content, now))
        else:
            played.add(session.binary(message.content, now))
    if end and played.close is None:
        played.add(session.end(EndReason.HANGUP, now))
    return played


def sine(rate_hz: int, count: int, hertz: float, start: int = 0) -> npt.NDArray[np.int16]:
    """What the transcripts carry, before it was encoded."""
    phase = 2 * np.pi * hertz * np.arange(start, start + count) / rate_hz
    return np.round(8000 * np.sin(phase)).astype(np.int16)
