"""Dialogs of a user agent server (RFC 3261 section 12): what answers and our own requests carry."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from streamguard.errors import ProtocolError
from streamguard.protocols.sip_message import Headers, SipRequest, SipResponse, top_via
from streamguard.protocols.sip_transaction import Flow
from streamguard.protocols.sip_values import parse_cseq, parse_name_addr, parse_via, split_list

MAX_ID_CHARS = 256
"""Of a Call-ID or tag: real ones have 100 at most, and oversized ones have felled others."""
MAX_VIAS = 32

REASONS = {
    100: "Trying",
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    405: "Method Not Allowed",
    415: "Unsupported Media Type",
    416: "Unsupported URI Scheme",
    420: "Bad Extension",
    422: "Session Interval Too Small",
    481: "Call/Transaction Does Not Exist",
    488: "Not Acceptable Here",
    500: "Server Internal Error",
    503: "Service Unavailable",
}

_RPORT = re.compile(r";\s*rport\b(?:\s*=\s*[0-9]*)?", re.IGNORECASE)
_COPIED = ("from", "call-id", "cseq")


@dataclass(slots=True, eq=False)
class Dialog:
    """Our end of a dialog that a peer's INVITE has opened."""

    call_id: str
    local_tag: str
    remote_tag: str
    local_uri: str
    """The To of the INVITE, with our tag."""
    remote_uri: str
    """The From of the INVITE, as written."""
    remote_target: str
    route_set: tuple[str, ...]
    remote_cseq: int
    local_cseq: int
    flow: Flow
    """Where the peer was last heard: our own requests go there, and never where a header points."""

    @classmethod
    def of(cls, invite: SipRequest, local_tag: str, flow: Flow) -> Dialog:
        """Raises ProtocolError where the INVITE lacks what a dialog needs (a Contact, a tag)."""
        headers = invite.headers
        contacts = headers.items("contact")
        remote_uri, local_uri = headers.get("from") or "", headers.get("to") or ""
        remote_tag = parse_name_addr(remote_uri).param("tag")
        if len(contacts) != 1 or not remote_tag:
            raise ProtocolError("sip", "contact" if remote_tag else "tag")
        return cls(
            call_id=headers.get("call-id") or "",
            local_tag=local_tag,
            remote_tag=remote_tag,
            local_uri=f"{local_uri};tag={local_tag}",
            remote_uri=remote_uri,
            remote_target=parse_name_addr(contacts[0]).uri,
            route_set=headers.items("record-route"),
            remote_cseq=parse_cseq(headers.get("cseq") or "")[0],
            local_cseq=0,
            flow=flow,
        )

    def request(
        self, method: str, branch: str, sent_by: str, extra: Iterable[tuple[str, str]] = ()
    ) -> SipRequest:
        """The next request of our own (section 12.2.1.1), from our address ``sent_by``."""
        self.local_cseq += 1
        fields = (
            ("via", f"SIP/2.0/{self.flow.transport} {sent_by};branch={branch};rport"),
            ("max-forwards", "70"),
            *(("route", value) for value in self.route_set),
            ("from", self.local_uri),
            ("to", self.remote_uri),
            ("call-id", self.call_id),
            ("cseq", f"{self.local_cseq} {method}"),
            *extra,
        )
        return SipRequest(method, self.remote_target, Headers(fields))


def check_request(request: SipRequest) -> str | None:
    """What is wrong with the headers that every request must have (section 8.1.1); None: nothing.

    Raises ProtocolError where so much is wrong that there is nobody to answer to.
    """
    headers = request.headers
    top_via(headers)
    if len(headers.items("via")) > MAX_VIAS:
        raise ProtocolError("sip", "via")
    for name in ("from", "to", "call-id", "cseq"):
        if len(headers.all(name)) != 1:
            return f"One {name.title()} Header Needed"
    call_id = headers.get("call-id") or ""
    if not 0 < len(call_id) <= MAX_ID_CHARS:
        return "Bad Call-ID"
    try:
        caller = parse_name_addr(headers.get("from") or "")
        parse_name_addr(headers.get("to") or "")
        _, method = parse_cseq(headers.get("cseq") or "")
    except ProtocolError as err:
        return f"Bad Header ({err.reason})"
    if len(caller.param("tag") or "") > MAX_ID_CHARS:
        return "Bad Tag"
    return None if method == request.method else "CSeq Method Does Not Match"


def make_response(
    request: SipRequest,
    source: Flow,
    status: int,
    *,
    reason: str | None = None,
    local_tag: str | None = None,
    extra: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
) -> SipResponse:
    """A response to a request that came over ``source`` (sections 8.2.6 and 18.2.1, RFC 3581)."""
    headers = request.headers
    vias = [value for field in headers.all("via") for value in split_list(field)]
    vias[0] = _received(vias[0], source)
    to = headers.get("to") or ""
    if local_tag is not None and "tag" not in dict(_params_of(to)):
        to = f"{to};tag={local_tag}"
    copied = [(name, value) for name in _COPIED for value in headers.all(name)]
    if status == 100:
        copied += [("timestamp", value) for value in headers.all("timestamp")]
    elif status < 300 and request.method == "INVITE":
        copied += [("record-route", value) for value in headers.all("record-route")]
    fields = (*(("via", value) for value in vias), ("to", to), *copied, *extra)
    return SipResponse(status, reason or REASONS[status], Headers(fields), body)


def response_flow(request: SipRequest, source: Flow) -> Flow:
    """Where responses go (section 18.2.2, RFC 3581): back to where the request came from; over UDP
    to the port that the Via names, unless it asks for the port of origin. ``maddr`` is ignored: we
    send nothing to hosts that have sent nothing."""
    if source.is_reliable:
        return source
    via = top_via(request.headers)
    if via.param("rport") is not None:
        return source
    return Flow(source.transport, source.host, via.port or 5060, source.local)


def _received(via: str, source: Flow) -> str:
    parsed = parse_via(via)
    added = f";received={source.host}"
    if parsed.param("rport") is not None:
        return _RPORT.sub(f";rport={source.port}", via, count=1) + added
    return via if parsed.host == source.host else via + added


def _params_of(value: str) -> tuple[tuple[str, str], ...]:
    try:
        return parse_name_addr(value).params
    except ProtocolError:
        return ()
