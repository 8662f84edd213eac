"""The connections of one source: counted, limited, watched; what they say goes into its queue."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from streamguard.clock import Clock
from streamguard.events import Audio, EndReason, LegEnded, LegStarted
from streamguard.protocols.media_session import MediaSession, Outcome
from streamguard.sources.base import Refusal, SourceStats
from streamguard.sources.connection_settings import ConnectionSettings
from streamguard.sources.event_queue import EventQueue
from streamguard.sources.networks import membership
from streamguard.telemetry.log import RepeatLimiter

logger = logging.getLogger(__name__)

TICK_S = 0.05
"""How often time is noticed where nothing arrives: holes, inactivity."""
QUEUE_EVENTS = 8_192
"""As of the RTP source: 2.5 s of 64 legs at 20 ms a message."""
AUDIO_AHEAD_S = 10.0
"""How much audio may come at once, after a stall of the network; beyond it a sender is read no
faster than people speak, so that nobody can crowd out the calls of others."""
MESSAGES_AHEAD_S = 4.0
"""The same in messages, in units of the time that their number is allowed."""


@dataclass(slots=True)
class Pace:
    """How far a sender is ahead of what it may send (a leaky bucket, as of ATM's GCRA)."""

    ahead_s: float
    _due: float = float("-inf")

    def add(self, seconds: float, now: float) -> float:
        """Note what came, in seconds of its allowance; how long to wait before the next."""
        self._due = max(self._due, now) + seconds
        return max(0.0, self._due - now - self.ahead_s)


@dataclass(slots=True, eq=False)
class Connection:
    """One connection; ``close`` sends the replies and ends it, and does not wait."""

    session: MediaSession
    close: Callable[[Outcome], None]
    counted: bool
    """Whether it takes the place of a call."""
    began_at: float
    last_audio_at: float
    closing: bool = False
    heard_s: float = 0.0
    audio: Pace = field(default_factory=lambda: Pace(AUDIO_AHEAD_S))
    messages: Pace = field(default_factory=lambda: Pace(MESSAGES_AHEAD_S))


class Connections:
    """Whoever is connected to a source; lives as long as the source, across its runs."""

    def __init__(self, settings: ConnectionSettings, clock: Clock, drops: Counter[str]) -> None:
        self._settings = settings
        self._clock = clock
        self._drops = drops
        self._open: set[Connection] = set()
        self._queue: EventQueue | None = None
        self._received = 0
        self._legs_active = 0
        self._legs_started = 0
        self._last_audio_at: float | None = None
        self._repeats = RepeatLimiter(logger)
        self.refusing: Refusal | None = None
        self.is_allowed = membership(settings.allow)
        """Whether an address may connect."""

    def begin(self, queue: EventQueue) -> None:
        """A new run: nothing is connected."""
        self._open.clear()
        self._legs_active = 0
        self._queue = queue

    def stats(self) -> SourceStats:
        return SourceStats(
            received=self._received,
            dropped={reason: count for reason, count in self._drops.items() if count},
            legs_active=self._legs_active,
            legs_started=self._legs_started,
            last_audio_at=self._last_audio_at,
        )

    def refusal(self) -> str | None:
        """Why no further call is taken; None while there is room."""
        if self.refusing is not None:
            return self.refusing.value
        if sum(c.counted for c in self._open) >= self._settings.max_calls:
            return "busy"
        return None

    def refused(self, reason: str, words: str = "") -> None:
        """Count it, and say so, though not for every one."""
        self._drops[reason] += 1
        self._repeats.log(
            logging.WARNING,
            reason,
            "source %s: connection refused: %s",
            self._settings.name,
            words or reason,
        )

    def add(
        self, session: MediaSession, close: Callable[[Outcome], None], *, counted: bool = True
    ) -> Connection:
        now = self._clock.monotonic()
        connection = Connection(session, close, counted, now, now)
        self._open.add(connection)
        return connection

    def remove(self, connection: Connection, reason: EndReason) -> None:
        """It is gone; a call that has not ended ends so."""
        if connection in self._open:
            self._open.discard(connection)
            now = self._clock.monotonic()
            self.deliver(connection, connection.session.end(reason, now), now)

    def take(self, connection: Connection, outcome: Outcome, now: float, cost_s: float) -> float:
        """What came of one message; how long to wait before reading the next."""
        self._received += 1
        self.deliver(connection, outcome, now)
        heard_s = connection.session.heard_s
        wait_s = max(
            connection.audio.add(heard_s - connection.heard_s, now),
            connection.messages.add(cost_s, now),
        )
        connection.heard_s = heard_s
        if wait_s:
            self._repeats.log(
                logging.WARNING,
                "throttled",
                "source %s: a sender is faster than it may be and is read slowly",
                self._settings.name,
            )
        return wait_s

    def deliver(self, connection: Connection, outcome: Outcome, now: float) -> None:
        """Put events on their way."""
        assert self._queue is not None
        for event in outcome.events:
            match event:
                case Audio():
                    self._last_audio_at = connection.last_audio_at = now
                case LegStarted():
                    self._legs_started += 1
                    self._legs_active += 1
                case LegEnded():
                    self._legs_active -= 1
                case _:
                    pass
            self._queue.put(event)

    def tick(self) -> None:
        """Let time pass for all of them."""
        now = self._clock.monotonic()
        settings = self._settings
        for connection in list(self._open):
            if connection.closing:
                continue
            session = connection.session
            outcome = session.tick(now)
            self.deliver(connection, outcome, now)
            if session.on_hold:
                connection.last_audio_at = now
            if not session.started and now - connection.began_at >= settings.start_timeout_s:
                self._drops["start_timeout"] += 1
                self.hang_up(connection, EndReason.INACTIVITY)
            elif session.started and now - connection.last_audio_at >= settings.inactivity_s:
                self.hang_up(connection, EndReason.INACTIVITY)

    def uncounted(self) -> int:
        """Connections that are there only to be told that there is no room."""
        return sum(not connection.counted for connection in self._open)

    def hang_up(self, connection: Connection, reason: EndReason) -> None:
        """End its call and close it."""
        now = self._clock.monotonic()
        connection.closing = True
        outcome = connection.session.end(reason, now)
        self.deliver(connection, outcome, now)
        connection.close(outcome)

    def shut(self) -> None:
        """The source stops: whoever runs it tells of the ends, the peers are told here."""
        for connection in list(self._open):
            connection.closing = True
            now = self._clock.monotonic()
            connection.close(connection.session.end(EndReason.SHUTDOWN, now))
        self._open.clear()

    def ended(self, session: MediaSession) -> None:
        """Say why a peer was turned away, if it was."""
        if session.refusal:
            self._repeats.log(
                logging.WARNING,
                "turned_away",
                "source %s: a peer was turned away: %s",
                self._settings.name,
                session.refusal,
            )
