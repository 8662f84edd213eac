"""Commands from operators, as bytes from the network: parsed strictly, with caps.

``cmd/ack``: ``{"alert_id", "operator", "note"?, "request_id"?}``.
``cmd/suppress``: ``{"<field>": value, "operator", "reason", "duration_s", "request_id"?}`` where
``<field>`` is exactly one of source, leg_role, call_id, alert_id. ``cmd/drain``: ``{"operator",
"request_id"?}``; no new calls are taken, and the daemon ends with the last one. The answer goes to
``cmd/result`` and repeats ``request_id``.

Who may command is for the broker's access list to say; operators need credentials of their own. For
mosquitto::

    user node1
    topic write streamguard/node1/#
    topic read streamguard/node1/cmd/ack
    topic read streamguard/node1/cmd/suppress
    topic read streamguard/node1/cmd/drain
    user desk
    topic read streamguard/#
    user operator
    topic write streamguard/+/cmd/ack
    topic write streamguard/+/cmd/suppress
    user administrator
    topic write streamguard/+/cmd/drain
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, NoReturn

from streamguard.alerts.suppression import Field
from streamguard.errors import StreamguardError
from streamguard.events import LegRole

MAX_BYTES = 4096
MAX_DURATION_S = 30 * 86_400.0
_NAME_CHARS_MAX = 128
_TEXT_CHARS_MAX = 500


class CommandError(StreamguardError):
    """A command is refused. ``code`` is one word for counters, ``reason`` is for the sender."""

    def __init__(self, code: str, reason: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class AckCommand:
    alert_id: str
    operator: str
    note: str
    request_id: str | None


@dataclass(frozen=True, slots=True)
class SuppressCommand:
    field: Field
    value: str
    operator: str
    reason: str
    duration_s: float
    request_id: str | None


@dataclass(frozen=True, slots=True)
class DrainCommand:
    operator: str
    request_id: str | None


def parse_drain(payload: bytes) -> DrainCommand:
    """Raises CommandError."""
    body = _object(payload, {"operator", "request_id"})
    return DrainCommand(_text(body, "operator", _NAME_CHARS_MAX), _request_id(body))


def parse_ack(payload: bytes) -> AckCommand:
    """Raises CommandError."""
    body = _object(payload, {"alert_id", "operator", "note", "request_id"})
    return AckCommand(
        alert_id=_text(body, "alert_id", _NAME_CHARS_MAX),
        operator=_text(body, "operator", _NAME_CHARS_MAX),
        note=_text(body, "note", _TEXT_CHARS_MAX) if "note" in body else "",
        request_id=_request_id(body),
    )


def parse_suppress(payload: bytes) -> SuppressCommand:
    """Raises CommandError."""
    fields = {field.value for field in Field}
    body = _object(payload, fields | {"operator", "reason", "duration_s", "request_id"})
    named = sorted(fields & body.keys())
    if len(named) != 1:
        _refuse("field", f"name exactly one of {', '.join(sorted(fields))}")
    field = Field(named[0])
    value = _text(body, field.value, _NAME_CHARS_MAX)
    roles = [role.value for role in LegRole]
    if field is Field.LEG_ROLE and value not in roles:
        _refuse("field", f"leg_role: one of {', '.join(roles)}")
    duration = body.get("duration_s")
    if isinstance(duration, bool) or not isinstance(duration, int | float):
        _refuse("field", "duration_s: a number of seconds is needed; no rule is for ever")
    if not 0 < duration <= MAX_DURATION_S:
        _refuse("field", f"duration_s: more than 0, at most {MAX_DURATION_S:.0f} (30 days)")
    return SuppressCommand(
        field=field,
        value=value,
        operator=_text(body, "operator", _NAME_CHARS_MAX),
        reason=_text(body, "reason", _TEXT_CHARS_MAX),
        duration_s=float(duration),
        request_id=_request_id(body),
    )


def _object(payload: bytes, allowed: set[str]) -> dict[str, Any]:
    if len(payload) > MAX_BYTES:
        _refuse("too_large", f"at most {MAX_BYTES} bytes")
    try:
        body = json.loads(payload.decode("utf-8"))
    except (ValueError, RecursionError) as err:
        raise CommandError("not_json", "not JSON in UTF-8") from err
    if not isinstance(body, dict):
        _refuse("not_json", "not a JSON object")
    unknown = sorted(body.keys() - allowed)
    if unknown:
        # The key is a stranger's text: say what is allowed instead of repeating it.
        _refuse("field", f"unknown key; allowed are {', '.join(sorted(allowed))}")
    return body


def _text(body: dict[str, Any], key: str, chars_max: int) -> str:
    value = body.get(key)
    if not isinstance(value, str) or not value.strip():
        _refuse("field", f"{key}: text is needed")
    if len(value) > chars_max or not value.isprintable():
        _refuse("field", f"{key}: at most {chars_max} printable characters on one line")
    return value


def _request_id(body: dict[str, Any]) -> str | None:
    return _text(body, "request_id", _NAME_CHARS_MAX) if "request_id" in body else None


def _refuse(code: str, reason: str) -> NoReturn:
    raise CommandError(code, reason)
