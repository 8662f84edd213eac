"""What the dialects of media connections have in common: messages in, events and answers out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from streamguard.audio.decoders import Codec, make_decoder
from streamguard.errors import MissingExtraError, ProtocolError
from streamguard.events import EndReason, Identity, IdentityKind, LegRole, SourceEvent
from streamguard.protocols.media_call import Interleaved, MediaCall

MAX_MALFORMED = 100
"""Messages in a row that may be unusable before their connection is closed: it does not speak this.
One now and then, of a kind that a provider has added, must not cost a call that is heard."""

ENDED = "end"
"""Why to close a connection whose call has ended as it should."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What follows from one message, or from the passing of time."""

    events: tuple[SourceEvent, ...] = ()
    replies: tuple[str, ...] = ()
    close: str | None = None
    """A word on why to close the connection now; None while it goes on."""


class MediaSession:
    """One connection from its acceptance to its end; no I/O, no clock, and no exception.

    Subclasses fill in :meth:`_text` and :meth:`_binary`, which raise ProtocolError for what they
    cannot use; it is counted in ``drops``, which is shared with the source.
    """

    def __init__(self, source: str, drops: Counter[str]) -> None:
        self._source = source
        self._drops = drops
        self._events: list[SourceEvent] = []
        self._replies: list[str] = []
        self._close: str | None = None
        self._malformed = 0
        self._call: MediaCall | None = None
        self._over = False
        self._numbers: dict[LegRole, str] = {}
        """Of the parties, where the peer tells them."""
        self.trunk = ""
        """What the call came over: the address of the peer, or the path that it asked for."""
        self.refusal = ""
        """Why the peer was turned away, in words for the log."""

    @property
    def started(self) -> bool:
        """Whether there is, or was, a call."""
        return self._call is not None

    @property
    def over(self) -> bool:
        """Whether the call has ended, or never will begin."""
        return self._over

    @property
    def heard_s(self) -> float:
        """Audio so far, of the leg that has the most."""
        return max((leg.heard_s for leg in self._call.legs), default=0.0) if self._call else 0.0

    @property
    def on_hold(self) -> bool:
        """Whether the peer has announced that nothing comes for a while."""
        return False

    def text(self, message: str, now: float) -> Outcome:
        return self._take(lambda: self._text(message, now))

    def binary(self, message: bytes, now: float) -> Outcome:
        return self._take(lambda: self._binary(message, now))

    def tick(self, now: float) -> Outcome:
        """Let time pass; to be called some times a second."""
        return self._take(lambda: self._poll(now), is_message=False)

    def end(self, reason: EndReason, now: float) -> Outcome:
        """The connection is over, or has to be."""
        return self._take(lambda: self._end(reason, now), is_message=False)

    def _text(self, message: str, now: float) -> None:
        raise ProtocolError("media", "unexpected_text")

    def _binary(self, message: bytes, now: float) -> None:
        raise ProtocolError("media", "unexpected_binary")

    def _poll(self, now: float) -> None:
        """Only what reorders has something to do."""

    def _start(self, name: str, now: float) -> MediaCall:
        if self._call is not None or self._over:
            raise ProtocolError("media", "second_start")
        self._call = MediaCall(self._source, name, now, self._events.append, self._identities)
        return self._call

    def _identities(self, role: LegRole) -> tuple[Identity, ...]:
        number = self._numbers.get(role)
        numbers = (Identity(IdentityKind.NUMBER, number),) if number else ()
        trunks = (Identity(IdentityKind.TRUNK, self.trunk),) if self.trunk else ()
        return numbers + trunks

    def _open(
        self, name: str, roles: Sequence[LegRole], codec: Codec, rate_hz: int, now: float
    ) -> Interleaved | None:
        """A call whose legs come interleaved; None where its audio cannot be decoded."""
        try:
            decoder = make_decoder(codec, rate_hz, byteorder="little")
        except (ValueError, MissingExtraError) as err:
            self._refuse("unsupported_format", str(err))
            return None
        return Interleaved(self._start(name, now), roles, codec, decoder, now)

    def _end(self, reason: EndReason, now: float) -> None:
        if self._call is not None and not self._over:
            self._call.end(reason, now)
        self._over = True
        self._close = self._close or ENDED

    def _refuse(self, reason: str, detail: str) -> None:
        """Not with this peer: ``reason`` is one word, ``detail`` may quote it."""
        self._drops[reason] += 1
        self.refusal = detail
        self._close = reason

    def _take(self, act: Callable[[], None], *, is_message: bool = True) -> Outcome:
        was_over = self._over
        try:
            act()
        except ProtocolError as err:
            self._drops[err.reason] += 1
            self._malformed += 1
            if self._malformed >= MAX_MALFORMED and self._close is None:
                self._refuse("too_malformed", f"{self._malformed} messages could not be used")
        else:
            self._malformed = 0 if is_message else self._malformed
        if was_over:
            self._events.clear()  # what was on its way when the call ended is no part of it
        outcome = Outcome(tuple(self._events), tuple(self._replies), self._close)
        self._events.clear()
        self._replies.clear()
        return outcome
