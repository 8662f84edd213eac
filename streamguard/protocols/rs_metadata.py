"""What a recorder says of a recorded session (RFC 7865), in the spellings that are seen.

The schema's revisions and the makers of session border controllers disagree on name spaces, on the
names of ids and on where a stream names its speaker; all of them are read alike. Names and numbers
stay inside: nothing here is for a log.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from streamguard.errors import ProtocolError
from streamguard.events import LegRole
from streamguard.protocols.xml_tree import Element, parse_xml

MAX_PARTICIPANTS = 32
MAX_STREAMS = 64

_USER = re.compile(r"(?:sips?:|tel:)?\s*([^@;>\s]+)", re.IGNORECASE)
_LABELS_BY_LEG = {"a_leg": LegRole.CALLER, "b_leg": LegRole.CALLEE}
"""SEMS labels its streams by the leg that they come from."""


@dataclass(frozen=True, slots=True)
class Participant:
    """Somebody in the recorded session."""

    id: str
    user: str = field(default="", repr=False)
    """The user part of the address of record: a number, as a rule. Private."""
    is_caller: bool | None = None
    """What the recorder says outright; None where it says nothing."""
    sends: tuple[str, ...] | None = None
    """Ids of the streams that carry this voice; None where nothing is said of it."""


@dataclass(frozen=True, slots=True)
class Stream:
    """A recorded stream; ``label`` is that of its SDP line."""

    id: str
    label: str | None
    mixed: bool = False


@dataclass(frozen=True, slots=True)
class RecordingMetadata:
    """A snapshot, or what has changed since the last one (``complete`` is false)."""

    complete: bool = True
    participants: tuple[Participant, ...] = ()
    """In the order of the document."""
    streams: tuple[Stream, ...] = ()
    calling: str = field(default="", repr=False)
    """User part of who called, from the recorded call's own headers. Private."""
    called: str = field(default="", repr=False)


def parse_metadata(data: bytes) -> RecordingMetadata:
    """Raises ProtocolError where it is not XML, or more than a call can be."""
    root = parse_xml(data)
    mode = root.first("datamode")
    complete = mode is None or mode.text.lower() != "partial"
    participants = {one.id: one for one in map(_participant, root.all("participant"))}
    for association in root.all("participantstreamassoc"):
        key = association.attributes.get("participant_id", "")
        one = participants.get(key)
        if one is None and key and not complete:
            one = Participant(key)  # who has been told of before, and is not again
        if one is not None:
            over = association.first("disassociate-time") is not None
            sends = () if over else tuple(send.text for send in association.all("send"))
            participants[key] = replace(one, sends=(one.sends or ()) + sends)
    streams = {one.id: one for one in map(_stream, root.all("stream"))}
    if len(participants) > MAX_PARTICIPANTS or len(streams) > MAX_STREAMS:
        raise ProtocolError("rs_metadata", "too_many")
    return RecordingMetadata(
        complete=complete,
        participants=tuple(participants.values()),
        streams=tuple(streams.values()),
        calling=_header_user(root, "fromhdr"),
        called=_header_user(root, "tohdr"),
    )


def merge(old: RecordingMetadata | None, new: RecordingMetadata) -> RecordingMetadata:
    """A snapshot replaces what was known, a partial one changes what it names. ProtocolError."""
    if old is None or new.complete:
        return new
    participants = {one.id: one for one in old.participants}
    for one in new.participants:
        before = participants.get(one.id)
        if before is not None:
            one = Participant(
                one.id,
                one.user or before.user,
                before.is_caller if one.is_caller is None else one.is_caller,
                before.sends if one.sends is None else one.sends,
            )
        participants[one.id] = one
    streams = {one.id: one for one in (*old.streams, *new.streams)}
    if len(participants) > MAX_PARTICIPANTS or len(streams) > MAX_STREAMS:
        raise ProtocolError("rs_metadata", "too_many")
    return RecordingMetadata(
        complete=True,
        participants=tuple(participants.values()),
        streams=tuple(streams.values()),
        calling=new.calling or old.calling,
        called=new.called or old.called,
    )


def with_gtd(metadata: RecordingMetadata, body: bytes) -> RecordingMetadata:
    """Add what Cisco's third part says (Generic Transparency Descriptor): CGN called CPN.

    Each parameter is a line, its last field the number.
    """
    numbers = {}
    for line in body[:4096].decode("ascii", "replace").splitlines():
        name, _, rest = line.partition(",")
        if name in ("CGN", "CPN") and rest:
            numbers[name] = rest.rpartition(",")[2].strip()
    return replace(
        metadata,
        calling=metadata.calling or numbers.get("CGN", ""),
        called=metadata.called or numbers.get("CPN", ""),
    )


@dataclass(frozen=True, slots=True)
class Voice:
    """Who is heard on a line."""

    role: LegRole
    users: tuple[str, ...] = field(default=(), repr=False)
    """User parts of those who speak, as far as they are known. Private."""
    guessed: bool = False
    """Whether only the order of the participants tells the role: in a later document, when others
    have come and gone, that order says nothing against what was known."""


def speakers(
    metadata: RecordingMetadata | None, labels: Sequence[str | None]
) -> tuple[LegRole, ...]:
    """The roles of :func:`voices`."""
    return tuple(voice.role for voice in voices(metadata, labels))


def voices(metadata: RecordingMetadata | None, labels: Sequence[str | None]) -> tuple[Voice, ...]:
    """Who speaks on each line of an offer, by the lines' labels.

    A single line carries everybody. Otherwise: who sends the line's stream, and whether that one
    is the caller: as the recorder says outright, else by the recorded call's From and To, else the
    first participant is. Without metadata nobody knows, and a label's number says nothing.
    """
    people = metadata.participants if metadata is not None else ()
    if len(labels) == 1:
        return (Voice(LegRole.MIXED, _users(people)),)
    if metadata is None or not people:
        return tuple(Voice(_role_by_label(label)) for label in labels)
    roles, guessed = _roles(metadata)
    senders = _senders(metadata)
    return tuple(
        replace(_voice(stream, senders, roles), guessed=guessed)
        if stream is not None
        else Voice(LegRole.UNKNOWN)
        for stream in _streams_of(metadata, labels)
    )


def _voice(
    stream: Stream, senders: Mapping[str, list[Participant]], roles: Mapping[str, LegRole]
) -> Voice:
    who = senders.get(stream.id, [])
    if stream.mixed or len(who) > 1:
        return Voice(LegRole.MIXED, _users(who))
    if not who:
        return Voice(_role_by_label(stream.label))
    return Voice(roles[who[0].id], _users(who))


def _users(people: Iterable[Participant]) -> tuple[str, ...]:
    return tuple(one.user for one in people if one.user)


def _role_by_label(label: str | None) -> LegRole:
    return _LABELS_BY_LEG.get(label or "", LegRole.UNKNOWN)


def _streams_of(
    metadata: RecordingMetadata, labels: Sequence[str | None]
) -> tuple[Stream | None, ...]:
    """By label; lines without any are taken in their order if that is not ambiguous."""
    if all(label is None for label in labels) and len(labels) == len(metadata.streams):
        return metadata.streams
    by_label = {stream.label: stream for stream in metadata.streams if stream.label}
    return tuple(by_label.get(label) if label else None for label in labels)


def _senders(metadata: RecordingMetadata) -> dict[str, list[Participant]]:
    """stream -> participants. Where nobody is said to send anything, the order of both tells."""
    senders: dict[str, list[Participant]] = {}
    for one in metadata.participants:
        for stream_id in dict.fromkeys(one.sends or ()):
            senders.setdefault(stream_id, []).append(one)
    nobody_said = all(one.sends is None for one in metadata.participants)
    if nobody_said and len(metadata.streams) == len(metadata.participants):
        pairs = zip(metadata.streams, metadata.participants, strict=True)
        return {stream.id: [one] for stream, one in pairs}
    return senders


def _roles(metadata: RecordingMetadata) -> tuple[dict[str, LegRole], bool]:
    """By participant, and whether they are guessed."""
    everybody = metadata.participants
    callers = {one.id for one in everybody if one.is_caller}
    callees = {one.id for one in everybody if one.is_caller is False}
    if not callers and metadata.calling != metadata.called:
        callers = _named(everybody, metadata.calling)
        callees = callees or _named(everybody, metadata.called)
    if not callers and len(callees) == 1 and len(everybody) == 2:
        callers = {one.id for one in everybody} - callees
    guessed = not callers and not callees
    if guessed:
        callers = {everybody[0].id}
    # Whoever did not call is on the called side: also who is put through later.
    others = LegRole.CALLEE if callers else LegRole.UNKNOWN
    roles = dict.fromkeys(callees, LegRole.CALLEE) | dict.fromkeys(callers, LegRole.CALLER)
    return {one.id: roles.get(one.id, others) for one in everybody}, guessed


def _named(participants: Iterable[Participant], user: str) -> set[str]:
    return {one.id for one in participants if user and one.user == user}


def _participant(element: Element) -> Participant:
    calling = next((one.text.lower() for one in element.walk() if one.name == "callingparty"), None)
    return Participant(
        id=element.attributes.get("participant_id") or element.attributes.get("id", ""),
        user=next((user for user in map(_aor_user, element.walk()) if user), ""),
        is_caller={"true": True, "false": False}.get(calling or ""),
        sends=tuple(send.text or send.attributes.get("id", "") for send in element.all("send"))
        or None,
    )


def _aor_user(element: Element) -> str:
    if element.name == "nameid":
        return _user(element.attributes.get("aor", ""))
    return _user(element.text) if element.name == "aor" else ""


def _stream(element: Element) -> Stream:
    label, mode = element.first("label"), element.first("mode")
    return Stream(
        id=element.attributes.get("stream_id") or element.attributes.get("id", ""),
        label=label.text or None if label is not None else None,
        mixed=mode is not None and mode.text.lower() == "mixed",
    )


def _header_user(root: Element, name: str) -> str:
    """Of a From or To that is quoted in the metadata: ``"Name" <sip:user@host>;tag=x``."""
    value = next((one.text for one in root.walk() if one.name == name), "")
    return _user(value.partition("<")[2] if "<" in value else value)


def _user(uri: str) -> str:
    match = _USER.match(uri.strip())
    return match[1] if match else ""
