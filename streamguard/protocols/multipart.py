"""Bodies of several parts (RFC 2046, RFC 5621): an SDP offer and what the recorder says of it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from streamguard.errors import ProtocolError
from streamguard.protocols.sip_message import Headers, parse_headers
from streamguard.protocols.sip_values import parse_params

MAX_BODY_BYTES = 65_535
MAX_PARTS = 8
_MAX_BOUNDARY = 70

_END_OF_HEAD = re.compile(rb"(?:\A|\r?\n)\r?\n")
_NEW_LINE = re.compile(rb"\r?\n")


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a body."""

    content_type: str
    """Lower case, without parameters or white space: some peers put a space where none belongs."""
    headers: Headers
    body: bytes


def parse_body(content_type: str | None, body: bytes) -> tuple[Part, ...]:
    """The parts of a body; a body that is not multipart is one part, an empty one is none.

    What precedes the first boundary and follows the last is left out; a last boundary that is
    missing is forgiven, for the body has a length. Raises ProtocolError.
    """
    if not body:
        return ()
    if len(body) > MAX_BODY_BYTES:
        raise ProtocolError("multipart", "oversized")
    main = media_type(content_type or "")
    if not main.startswith("multipart/"):
        return (Part(main, Headers(), body),)
    boundary = dict(parse_params((content_type or "").partition(";")[2])).get("boundary", "")
    if not 0 < len(boundary) <= _MAX_BOUNDARY or not boundary.isascii():
        raise ProtocolError("multipart", "boundary")
    delimiter = re.compile(
        rb"(?:\A|\r?\n)--" + re.escape(boundary.encode()) + rb"(--)?[ \t]*(?=\r?\n|\Z)"
    )
    parts: list[Part] = []
    start: int | None = None
    for match in delimiter.finditer(body):
        if start is not None:
            parts.append(_part(body[start : match.start()]))
        if len(parts) > MAX_PARTS:
            raise ProtocolError("multipart", "too_many_parts")
        start = None if match[1] else match.end()
        if match[1]:
            break
    else:
        if start is not None:
            parts.append(_part(body[start:]))
    if not parts:
        raise ProtocolError("multipart", "no_parts")
    if len(parts) > MAX_PARTS:
        raise ProtocolError("multipart", "too_many_parts")
    return tuple(parts)


def media_type(value: str) -> str:
    """``type/subtype`` of a Content-Type value."""
    return re.sub(r"\s", "", value.partition(";")[0]).lower()


def _part(raw: bytes) -> Part:
    """From behind the boundary's line: headers, an empty line, the body."""
    new_line = _NEW_LINE.match(raw)
    raw = raw[new_line.end() :] if new_line else raw
    end = _END_OF_HEAD.search(raw)
    if end is None:
        raise ProtocolError("multipart", "no_end")
    headers = parse_headers(raw[: end.start()])
    return Part(media_type(headers.get("content-type") or "text/plain"), headers, raw[end.end() :])
