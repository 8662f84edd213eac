"""What a source is.

A source is run by somebody (the supervisor, ``analyze``), to whom these rules hold:

* ``run`` announces itself with ``SourceUp`` and then emits calls, legs and their samples;
* it returns when its material has ended by itself: all its legs have ended and ``SourceDown`` is
  out; it raises ``SourceError`` (a file: ``AudioFileError``) when it dies;
* when it dies or is cancelled it emits nothing more: whoever runs it emits ``SourceDown``, which
  ends what is left of its legs.
"""

from __future__ import annotations

import enum
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from streamguard.events import SourceEvent

Emit = Callable[[SourceEvent], Awaitable[None]]
"""Take one event, in order. It may make the source wait: a replay then waits (back-pressure), a
live source keeps receiving into its own bounded queue and drops, counted, what is oldest."""


@dataclass(frozen=True, slots=True)
class SourceStats:
    """Counters of one source since it was made; a snapshot."""

    received: int
    """Datagrams, sound-card blocks or file chunks."""
    dropped: Mapping[str, int]
    """By reason."""
    legs_active: int
    legs_started: int
    last_audio_at: float | None
    """Monotonic time of the newest audio: a process that lives may yet hear nothing."""


class Refusal(enum.StrEnum):
    """Why no new calls are taken; those that are up go on."""

    DRAINING = "draining"
    """The daemon ends when the last call has ended: another node should take the next one."""
    OVERLOAD = "overload"
    """Inference drops audio of the calls that are up."""


class Source(Protocol):
    """One configured origin of audio."""

    @property
    def name(self) -> str:
        """As configured; unique in a daemon."""

    async def run(self, emit: Emit) -> None:
        """Emit events until the material ends; see the rules above. May be run again."""

    def refuse_calls(self, why: Refusal | None) -> None:
        """Answer new calls as busy from now on, in the words of the protocol.

        Those that are up go on; None takes new ones again. A recording or a microphone has nobody
        to refuse.
        """

    def stats(self) -> SourceStats:
        """Never blocks."""


def new_id() -> str:
    """An id for a call or leg that says nothing about who is on it."""
    return secrets.token_hex(8)
