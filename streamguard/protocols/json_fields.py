"""JSON of a peer, field by field: what is there is of the expected kind, or it is not there."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from streamguard.errors import ProtocolError

JsonObject = dict[str, Any]

MAX_TEXT = 256
"""Characters of a name or an id that are believed."""
_MAX_DIGITS = 18


def parse_object(message: str) -> JsonObject:
    """Raises ProtocolError for what is no JSON object (RFC 8259: neither NaN nor Infinity)."""
    try:
        value = json.loads(message, parse_constant=_no_constant)
    except (ValueError, RecursionError) as err:
        raise ProtocolError("json", "json") from err
    if not isinstance(value, dict):
        raise ProtocolError("json", "json")
    return value


def object_in(fields: JsonObject, key: str) -> JsonObject:
    """An object within; empty where there is none."""
    value = fields.get(key)
    return value if isinstance(value, dict) else {}


def text_in(fields: JsonObject, key: str) -> str:
    """Text of at most ``MAX_TEXT`` characters; empty where there is none."""
    value = fields.get(key)
    return value if isinstance(value, str) and len(value) <= MAX_TEXT else ""


def number_in(fields: JsonObject, key: str, low: int, high: int) -> int | None:
    """A whole number, as such or in quotes, from ``low`` to ``high``."""
    value = fields.get(key)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= _MAX_DIGITS:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
        return value
    return None


def bytes_in(fields: JsonObject, key: str) -> bytes:
    """Strict base64 (RFC 4648 section 4). Raises ProtocolError."""
    value = fields.get(key)
    if not isinstance(value, str):
        raise ProtocolError("json", "payload")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as err:
        raise ProtocolError("json", "base64") from err


def _no_constant(name: str) -> None:
    raise ValueError(name)
