"""What a request of a recording client carries (RFC 7866): an offer, metadata, both or neither."""

from __future__ import annotations

from dataclasses import dataclass, replace

from streamguard.errors import ProtocolError
from streamguard.protocols.multipart import Part, parse_body
from streamguard.protocols.rs_metadata import RecordingMetadata, parse_metadata, with_gtd
from streamguard.protocols.sdp import SessionDescription, parse_sdp
from streamguard.protocols.sip_message import SipRequest

_IDENTITY = ("", "identity")
_BARE_XML = frozenset({"application/+xml", "application/xml", "text/xml"})
"""Of peers that leave out what kind it is. XML that says so (pidf+xml: a place) is no metadata."""


@dataclass(frozen=True, slots=True)
class RecordingOffer:
    """The body of a request, read."""

    sdp: SessionDescription | None
    metadata: RecordingMetadata | None
    metadata_problem: str | None = None
    """Why there is none although there is a part for it: the call is heard all the same."""
    is_siprec: bool = False
    """Whether the request is about a recording session at all."""


def read_offer(request: SipRequest) -> RecordingOffer:
    """Raises ProtocolError where the body, or the offer in it, cannot be read.

    A request is SIPREC's by its option tag or by its metadata: peers misspell the feature tag of
    the Contact, and metadata may be missing.
    """
    if (request.headers.get("content-encoding") or "").lower() not in _IDENTITY:
        raise ProtocolError("sip", "content_encoding")
    parts = parse_body(request.headers.get("content-type"), request.body)
    sdp = next((part for part in parts if part.content_type == "application/sdp"), None)
    about = next((part for part in parts if _is_metadata(part)), None)
    offer = RecordingOffer(
        sdp=parse_sdp(sdp.body) if sdp is not None else None,
        metadata=None,
        is_siprec=about is not None or "siprec" in request.headers.tokens("require"),
    )
    if about is None:
        return offer
    try:
        metadata = parse_metadata(about.body)
    except ProtocolError as err:
        return replace(offer, metadata_problem=err.reason)
    for part in parts:
        if part.content_type == "application/gtd":
            metadata = with_gtd(metadata, part.body)
    return replace(offer, metadata=metadata)


def _is_metadata(part: Part) -> bool:
    """``application/rs-metadata+xml``, in the spellings that are seen."""
    disposition = (part.headers.get("content-disposition") or "").partition(";")[0]
    return (
        disposition.strip().lower() == "recording-session"
        or part.content_type.startswith("application/rs-metadata")
        or part.content_type in _BARE_XML
    )
