"""Calls as somebody who overhears their signalling knows them: SIP in, who speaks where out. Pure.

RFC 3261 (dialogs), RFC 3264 (offer and answer), RFC 7866 (recording sessions). Nobody is answered,
and nothing is believed to be complete: the capture may have begun in mid-call, or have missed any
message. What an SDP body describes is where its writer wants to *receive*; who sends there speaks
on the other side.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from streamguard.errors import ProtocolError
from streamguard.events import Identity, IdentityKind, LegRole
from streamguard.protocols.multipart import Part, parse_body
from streamguard.protocols.packets import Endpoint
from streamguard.protocols.rs_metadata import (
    RecordingMetadata,
    Voice,
    merge,
    parse_metadata,
    voices,
    with_gtd,
)
from streamguard.protocols.rtp_codecs import PayloadFormat
from streamguard.protocols.sdp import Direction, SessionDescription, parse_sdp
from streamguard.protocols.sdp_formats import formats_of
from streamguard.protocols.sip_message import SipMessage, SipRequest, SipResponse
from streamguard.protocols.sip_values import parse_cseq, parse_name_addr

MAX_CALLS = 4_096
"""Beyond it the call that was not heard of for longest is forgotten: its legs go on until they fall
silent, but its hang-up is not seen."""
MAX_LINES = 16
"""Audio lines of one call; further ones are left out."""
MAX_ENDPOINTS = 64
"""Addresses that a call's descriptions may name, one after the other."""
MAX_CALL_ID_CHARS = 256
_NOWHERE = frozenset({"0.0.0.0", "::"})  # noqa: S104  # compared with, never bound to
"""Connection addresses that put on hold, as RFC 2543 had it."""


class Side(enum.Enum):
    """Of a call: who sent the first INVITE, or who got it."""

    CALLER = "caller"
    CALLEE = "callee"

    @property
    def other(self) -> Side:
        return Side.CALLEE if self is Side.CALLER else Side.CALLER


@dataclass(frozen=True, slots=True)
class Speaker:
    """Who is heard in a flow of packets."""

    call_id: str
    side: Side
    line: int
    """Of the audio lines, from 0."""
    role: LegRole
    formats: dict[int, PayloadFormat]
    identities: tuple[Identity, ...]
    encrypted: bool
    held: bool
    answered: bool
    current: bool
    """Whether the newest description is of this address; else its side has moved on from it."""


class ChangeKind(enum.Enum):
    HELD = "held"
    RESUMED = "resumed"
    DESCRIBED = "described"
    """Formats or roles may have changed."""
    ANSWERED = "answered"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Change:
    """What a message did to a call; ``side`` and ``line`` where it is about one speaker."""

    kind: ChangeKind
    call_id: str
    side: Side = Side.CALLER
    line: int = 0


@dataclass(slots=True)
class _Line:
    """What one side said last of one audio line."""

    formats: dict[int, PayloadFormat]
    encrypted: bool
    label: str | None
    held: bool = False


@dataclass(slots=True)
class _Call:
    tag: str | None
    """From-tag of its first request: of the CALLER, as far as one can know."""
    from_start: bool
    """Else the capture began in mid-call, and who called whom is not known."""
    parties: dict[Side, str]
    """Addresses of record. Private: for the policy alone, as is the trunk."""
    trunk: str | None
    """Address of whoever sent its first INVITE, if that was captured."""
    recording: bool = False
    established: bool = False
    refused: bool = False
    """Whether the newest INVITE was."""
    answer_tag: str | None = None
    """To-tag with the newest description of the CALLEE: a proxy may try several."""
    lines: dict[tuple[Side, int], _Line] = field(default_factory=dict)
    endpoints: dict[Endpoint, tuple[Side, int]] = field(default_factory=dict)
    """Where which side receives, the newest last."""
    metadata: RecordingMetadata | None = None


class SipCalls:
    """Every call that is signalled; ``drops`` counts, by reason, what could not be read."""

    def __init__(self, drops: Counter[str]) -> None:
        self._drops = drops
        self._calls: dict[str, _Call] = {}
        """By Call-ID; the one heard of last comes last."""
        self._at: dict[Endpoint, str] = {}
        """Where which call receives."""

    def __len__(self) -> int:
        return len(self._calls)

    def message(self, message: SipMessage, host: str | None = None) -> list[Change]:
        """Take one message, in the order of the capture, and the address that it came from."""
        try:
            return self._message(message, host)
        except ProtocolError as err:
            self._count(err)
            return []

    def speaker(self, source: Endpoint, target: Endpoint) -> Speaker | None:
        """Who is heard in the packets from there to there; None where no call announced them."""
        if target in self._at:
            return self._speaker(target, sends_there=True)
        if source in self._at:
            # The other side's description was not captured, or its address was translated.
            return self._speaker(source, sends_there=False)
        return None

    def _speaker(self, endpoint: Endpoint, *, sends_there: bool) -> Speaker:
        call_id = self._at[endpoint]
        call = self._calls[call_id]
        described_by, number = whose = call.endpoints[endpoint]
        side = described_by.other if sends_there else described_by
        newest = next(one for one in reversed(call.endpoints) if call.endpoints[one] == whose)
        line = call.lines[described_by, number]
        own = call.lines.get((side, number))
        return Speaker(
            call_id=call_id,
            side=side,
            line=number,
            role=self._role(call, side, number),
            formats=dict(line.formats),
            identities=self._identities(call, side, number),
            encrypted=line.encrypted,
            held=own is not None and own.held,
            answered=call.established,
            current=newest == endpoint,
        )

    def _identities(self, call: _Call, side: Side, number: int) -> tuple[Identity, ...]:
        # Of a recording, both parties are machines.
        people = self._voice(call, side, number).users if call.recording else (call.parties[side],)
        trunk = () if call.trunk is None else (Identity(IdentityKind.TRUNK, call.trunk),)
        return (*(Identity(IdentityKind.NUMBER, one) for one in people), *trunk)

    def _voice(self, call: _Call, side: Side, number: int) -> Voice:
        """Who speaks on a line of a recording."""
        labels = [line.label for (owner, _), line in call.lines.items() if owner is side]
        found = voices(call.metadata, labels)
        return found[number] if number < len(found) else Voice(LegRole.UNKNOWN)

    def _role(self, call: _Call, side: Side, number: int) -> LegRole:
        if call.recording:
            return self._voice(call, side, number).role
        if not call.from_start:
            return LegRole.UNKNOWN
        return LegRole.CALLER if side is Side.CALLER else LegRole.CALLEE

    def _message(self, message: SipMessage, host: str | None) -> list[Change]:
        call_id = message.headers.get("call-id")
        cseq = message.headers.get("cseq")
        if not call_id or cseq is None or len(call_id) > MAX_CALL_ID_CHARS:
            raise ProtocolError("sip", "no_call_id")
        _, method = parse_cseq(cseq)
        sender = parse_name_addr(message.headers.get("from") or "")
        target = parse_name_addr(message.headers.get("to") or "")
        from_tag, to_tag = sender.param("tag"), target.param("tag")
        status = message.status if isinstance(message, SipResponse) else None
        call = self._calls.pop(call_id, None)
        if call is None:
            if status is not None or method != "INVITE":
                return []  # of a call whose INVITE was not captured
            parties = {Side.CALLER: sender.uri, Side.CALLEE: target.uri}
            trunk = None if to_tag else host
            call = _Call(from_tag, not to_tag, parties, trunk, established=bool(to_tag))
        self._calls[call_id] = call
        if len(self._calls) > MAX_CALLS:
            self._forget(next(iter(self._calls)))
            self._drops["sip_calls"] += 1
        if _ends(message, method, to_tag, call):
            self._forget(call_id)
            return [Change(ChangeKind.ENDED, call_id)]
        changes = [Change(ChangeKind.ANSWERED, call_id)] if _answers(method, status, call) else []
        asking = Side.CALLER if from_tag == call.tag else Side.CALLEE
        side = asking if status is None else asking.other
        bodies = list(self._bodies(call_id, call, side, message))
        if bodies and side is Side.CALLEE and asking is Side.CALLER:
            call.answer_tag = to_tag
        return changes + bodies

    def _bodies(
        self, call_id: str, call: _Call, side: Side, message: SipMessage
    ) -> Iterator[Change]:
        """Read the session description, and the metadata of a recording, if there are any."""
        parts = parse_body(message.headers.get("content-type"), message.body)
        if not parts:
            return
        if isinstance(message, SipRequest) and "siprec" in message.headers.tokens("require"):
            call.recording = True
        for part in parts:
            try:
                yield from self._part(call_id, call, side, part)
            except ProtocolError as err:
                self._count(err)
        yield Change(ChangeKind.DESCRIBED, call_id)

    def _part(self, call_id: str, call: _Call, side: Side, part: Part) -> Iterator[Change]:
        if part.content_type == "application/sdp":
            yield from self._described(call_id, call, side, parse_sdp(part.body))
        elif "rs-metadata" in part.content_type or (
            call.recording and part.content_type.endswith("xml")  # as BroadWorks has it
        ):
            call.recording = True
            call.metadata = merge(call.metadata, parse_metadata(part.body))
        elif part.content_type == "application/gtd" and call.metadata is not None:
            call.metadata = with_gtd(call.metadata, part.body)

    def _described(
        self, call_id: str, call: _Call, side: Side, description: SessionDescription
    ) -> Iterator[Change]:
        audio = [line for line in description.media if line.kind == "audio"]
        for number, media in enumerate(audio[:MAX_LINES]):
            before = call.lines.get((side, number))
            line = _Line(formats_of(media, self._drops), media.is_srtp, media.label)
            nowhere = media.connection in _NOWHERE
            if before is not None and not call.recording:
                line.held = nowhere or media.direction in (Direction.SENDONLY, Direction.INACTIVE)
                if line.held is not before.held:
                    kind = ChangeKind.HELD if line.held else ChangeKind.RESUMED
                    yield Change(kind, call_id, side, number)
            if media.port and media.connection and not nowhere:
                self._receive_at((media.connection, media.port), call_id, call, (side, number))
            elif before is not None and not line.formats:
                line.formats = before.formats
            call.lines[side, number] = line

    def _receive_at(
        self, endpoint: Endpoint, call_id: str, call: _Call, whose: tuple[Side, int]
    ) -> None:
        owner = self._at.get(endpoint)
        if owner is not None and owner != call_id:
            del self._calls[owner].endpoints[endpoint]  # the port has gone to a later call
        call.endpoints.pop(endpoint, None)
        call.endpoints[endpoint] = whose
        self._at[endpoint] = call_id
        if len(call.endpoints) > MAX_ENDPOINTS:
            oldest = next(iter(call.endpoints))
            del call.endpoints[oldest], self._at[oldest]

    def _count(self, error: ProtocolError) -> None:
        self._drops[f"{error.protocol}_{error.reason}"] += 1

    def _forget(self, call_id: str) -> None:
        call = self._calls.pop(call_id)
        for endpoint in call.endpoints:
            del self._at[endpoint]


def _answers(method: str, status: int | None, call: _Call) -> bool:
    """Note how the INVITE fares; whether the call is answered with this message.

    Where the 200 was not captured, the ACK tells, unless it is that of a refusal.
    """
    if method == "INVITE" and status is None:
        call.refused = False
    if method == "INVITE" and status is not None and status >= 300:
        call.refused = True
    accepted = method == "INVITE" and status is not None and 200 <= status < 300
    answered = accepted or (method == "ACK" and not call.refused)
    if call.established or not answered:
        return False
    call.established = True
    return True


def _ends(message: SipMessage, method: str, to_tag: str | None, call: _Call) -> bool:
    if isinstance(message, SipRequest):
        # A CANCEL that crosses the answer comes too late (section 9.2).
        return message.method == "BYE" or (message.method == "CANCEL" and not call.established)
    # A refusal by somebody who was never heard ends nothing: the INVITE may yet be answered, after
    # an authentication or by another branch of a proxy.
    refused = method == "INVITE" and message.status >= 300 and not call.established
    return refused and call.answer_tag is not None and call.answer_tag == to_tag
