"""One recorded call: from offers and metadata to legs, and to the answers that say so. No I/O."""

from __future__ import annotations

import base64
import ipaddress
import secrets
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from streamguard.errors import ProtocolError
from streamguard.events import (
    CallEnded,
    CallStarted,
    EndReason,
    Hold,
    Identity,
    IdentityKind,
    LegEnded,
    LegRole,
    LegStarted,
    LegUpdated,
    Resume,
    SourceEvent,
)
from streamguard.protocols.rs_metadata import RecordingMetadata, Voice, merge, voices
from streamguard.protocols.rtp_codecs import PayloadFormat
from streamguard.protocols.sdp import (
    Acceptance,
    Crypto,
    Direction,
    MediaLine,
    SessionDescription,
    build_answer,
)
from streamguard.protocols.sdp_formats import formats_of
from streamguard.protocols.srtp import KEY_BYTES, SUITES, parse_inline

MAX_LINES = 16
"""Lines of one offer: a conference of that many speakers is no telephone call."""
_SENDING = (Direction.SENDONLY, Direction.SENDRECV)


class NoPortError(Exception):
    """There is no port left for a line: the call cannot be had now."""


@dataclass(frozen=True, slots=True)
class LineSpec:
    """What is to be received for one line, and from whom."""

    leg: str
    formats: Mapping[int, PayloadFormat]
    """By payload type, as answered."""
    announced: PayloadFormat
    """The one that ``LegStarted`` tells of: the first audio format of the answer."""
    host: str
    """Only this address may send."""
    port: int
    """Where it will send from, as a rule."""
    crypto: Crypto | None
    """The peer's key, of an SRTP line."""


class Media(Protocol):
    """Who receives the audio."""

    def open(self, spec: LineSpec) -> int | None:
        """The port that a new line is received on; None where there is none."""

    def change(self, spec: LineSpec) -> None:
        """The leg's line has been renegotiated."""

    def close(self, leg: str) -> list[SourceEvent]:
        """Give back the port; what the leg still had to say."""

    def heard(self, leg: str) -> tuple[float, bool]:
        """When something last came for the leg, and whether its sender announced silence."""


@dataclass(slots=True)
class _Line:
    """An accepted line."""

    spec: LineSpec
    port: int
    role: LegRole
    own_key: Crypto | None
    on_hold: bool = False
    resumed_at: float = float("-inf")
    """When its last hold ended: what was heard before says nothing of what is to come."""


class RecordedCall:
    """The legs of one recording session. ``emit`` gets its events, in order.

    ``host`` is the address that answers name, ``trunk`` that of whoever sends us the call.
    """

    def __init__(
        self,
        source: str,
        call: str,
        media: Media,
        emit: Callable[[SourceEvent], None],
        new_id: Callable[[], str],
        drops: Counter[str],
        host: str,
        trunk: str,
        *,
        srtp: bool,
    ) -> None:
        self.call = call
        self._source = source
        self._media = media
        self._emit = emit
        self._new_id = new_id
        self._drops = drops
        self._host = host
        self._trunk = trunk
        self._srtp = srtp
        self._lines: dict[int, _Line] = {}
        """By the line's place in the offer."""
        self._labels: list[str | None] = []
        """Of every line of the last offer."""
        self._audio: list[int] = []
        """Places of its audio lines, refused ones too: two lines of which one is refused are not
        a mixed one."""
        self._metadata: RecordingMetadata | None = None
        self._session_id = secrets.randbits(62)
        self._version = 0
        self._answer = b""
        self._offered_at = 0.0
        self._started = False
        self._ended = False
        self._legs_started = 0

    @property
    def answer(self) -> bytes:
        """The last description that we gave."""
        return self._answer

    @property
    def legs(self) -> tuple[str, ...]:
        return tuple(line.spec.leg for line in self._lines.values())

    def is_quiet(self, now: float, patience_s: float, patience_in_silence_s: float) -> bool:
        """Whether nothing has come on any line for longer than it may."""
        if not self._lines:
            return now - self._offered_at >= patience_in_silence_s
        for line in self._lines.values():
            heard_at, silent = self._media.heard(line.spec.leg)
            patience = patience_in_silence_s if silent or line.on_hold else patience_s
            if now - max(heard_at, line.resumed_at) < patience:
                return False
        return True

    def offer(
        self, offer: SessionDescription, metadata: RecordingMetadata | None, now: float
    ) -> bytes:
        """Take an offer, the first or a later one; our answer.

        Raises ProtocolError where no line of it can be taken, or it takes lines away without a
        trace, and NoPortError; what was up before stays as it was.
        """
        if not 0 < len(offer.media) <= MAX_LINES or len(offer.media) < len(self._labels):
            raise ProtocolError("sdp", "lines")
        plans = [self._plan(index, line) for index, line in enumerate(offer.media)]
        if not any(plans) and not self._started:
            raise ProtocolError("sdp", "not_acceptable")
        merged = merge(self._metadata, metadata) if metadata is not None else self._metadata
        ports = self._open(plans)
        self._offered_at = now
        self._metadata = merged
        self._labels = [line.label for line in offer.media]
        self._audio = [index for index, line in enumerate(offer.media) if line.kind == "audio"]
        found = self._voices()
        if not self._started:
            self._started = True
            self._emit(CallStarted(self._source, self.call, now))
        for index, (line, spec) in enumerate(zip(offer.media, plans, strict=True)):
            if spec is None:
                self._end_line(index, EndReason.HANGUP, now)
            else:
                self._take(index, line, spec, ports.get(index), found[index], now)
        self._answer = self._build_answer(offer)
        return self._answer

    def tell(self, metadata: RecordingMetadata) -> None:
        """Metadata alone: who speaks may be known better. Raises ProtocolError."""
        self._metadata = merge(self._metadata, metadata)
        found = self._voices()
        for place, line in sorted(self._lines.items()):
            self._update_role(line, found[place])

    def end(self, reason: EndReason, now: float) -> None:
        """The call is over; said once."""
        for index in sorted(self._lines):
            self._end_line(index, reason, now)
        if self._started and not self._ended:
            self._ended = True
            self._emit(CallEnded(self.call, reason, now))

    def _voices(self) -> dict[int, Voice]:
        found = voices(self._metadata, [self._labels[place] for place in self._audio])
        return dict(zip(self._audio, found, strict=True))

    def _plan(self, index: int, line: MediaLine) -> LineSpec | None:
        """How a line would be received; None refuses it, for a counted reason."""
        if line.port == 0:
            return None
        formats = formats_of(line, self._drops)
        first = next((one for one in formats.values() if one.is_audio), None)
        crypto = _usable_key(line) if self._srtp else None
        known = self._lines.get(index)
        host = line.connection
        if known is not None and host is not None and not _is_sending_address(host):
            host = known.spec.host  # c=0.0.0.0 is how old peers say hold
        refusal = None
        if line.kind != "audio" or first is None:
            refusal = "line_codec"
        elif "RTP/" not in line.protocol.upper():
            refusal = "line_protocol"
        elif host is None or not _is_sending_address(host):
            refusal = "line_address"
        elif line.is_srtp and crypto is None:
            refusal = "line_srtp"
        if refusal is not None or first is None or host is None:
            self._drops[refusal or "line_codec"] += 1
            return None
        leg = known.spec.leg if known is not None else self._new_id()
        return LineSpec(leg, formats, first, host, line.port, crypto if line.is_srtp else None)

    def _open(self, plans: Sequence[LineSpec | None]) -> dict[int, int]:
        """Ports for the lines that are new; all of them or none."""
        ports: dict[int, int] = {}
        for index, spec in enumerate(plans):
            if spec is None or index in self._lines:
                continue
            port = self._media.open(spec)
            if port is None:
                for opened in ports:
                    plan = plans[opened]
                    assert plan is not None
                    self._media.close(plan.leg)
                raise NoPortError
            ports[index] = port
        return ports

    def _take(
        self,
        index: int,
        line: MediaLine,
        spec: LineSpec,
        port: int | None,
        voice: Voice,
        now: float,
    ) -> None:
        on_hold = line.direction not in _SENDING or not _is_sending_address(line.connection or "")
        known = self._lines.get(index)
        if known is None:
            assert port is not None
            known = _Line(spec, port, voice.role, _own_key(spec.crypto) if spec.crypto else None)
            self._lines[index] = known
            announced = spec.announced
            self._emit(
                LegStarted(
                    self._source,
                    self.call,
                    spec.leg,
                    voice.role,
                    announced.name,
                    announced.rate_hz,
                    received_at=now,
                    index=self._legs_started,
                    identities=(
                        *(Identity(IdentityKind.NUMBER, user) for user in voice.users),
                        Identity(IdentityKind.TRUNK, self._trunk),
                    ),
                )
            )
            self._legs_started += 1
        else:
            self._update_role(known, voice)
            if spec != known.spec:
                if spec.crypto != known.spec.crypto:
                    known.own_key = _own_key(spec.crypto) if spec.crypto else None
                known.spec = spec
                self._media.change(spec)
        if on_hold != known.on_hold:
            known.on_hold = on_hold
            known.resumed_at = known.resumed_at if on_hold else now
            self._emit(Hold(spec.leg) if on_hold else Resume(spec.leg))

    def _update_role(self, line: _Line, voice: Voice) -> None:
        if voice.guessed and line.role in (LegRole.CALLER, LegRole.CALLEE):
            return
        if voice.role not in (LegRole.UNKNOWN, line.role):
            line.role = voice.role
            self._emit(LegUpdated(line.spec.leg, voice.role))

    def _end_line(self, index: int, reason: EndReason, now: float) -> None:
        line = self._lines.pop(index, None)
        if line is None:
            return
        for event in self._media.close(line.spec.leg):
            self._emit(event)
        self._emit(LegEnded(line.spec.leg, reason, now))

    def _build_answer(self, offer: SessionDescription) -> bytes:
        """An answer that says what the last one said keeps its version (RFC 3264 section 8)."""
        acceptances = [self._acceptance(index, line) for index, line in enumerate(offer.media)]

        def build() -> bytes:
            return build_answer(
                offer,
                acceptances,
                host=self._host,
                session_id=self._session_id,
                version=self._version,
            )

        answer = build()
        if answer != self._answer and self._answer:
            self._version += 1
            answer = build()
        return answer

    def _acceptance(self, index: int, line: MediaLine) -> Acceptance | None:
        known = self._lines.get(index)
        if known is None:
            return None
        return Acceptance(
            port=known.port,
            payload_types=tuple(known.spec.formats),
            direction=Direction.RECVONLY if line.direction in _SENDING else Direction.INACTIVE,
            crypto=known.own_key,
        )


def _usable_key(line: MediaLine) -> Crypto | None:
    """The first key of the line that we can use."""
    for crypto in line.cryptos:
        if crypto.suite in SUITES:
            try:
                parse_inline(crypto.key_params)
            except ProtocolError:
                continue
            return crypto
    return None


def _own_key(crypto: Crypto) -> Crypto:
    """A key of our own under the peer's tag: nothing is sent with it, but an answer has one."""
    key = base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()
    return Crypto(crypto.tag, crypto.suite, f"inline:{key}")


def _is_sending_address(host: str) -> bool:
    """A literal address that somebody can send from: names are not looked up."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return not (address.is_unspecified or address.is_multicast)
