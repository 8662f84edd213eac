"""HTTP message signatures with a shared key (RFC 9421, hmac-sha256), as of AudioHook clients.

Only what they need: components are header fields, ``@authority`` and ``@request-target`` (of the
drafts, which AudioHook keeps to), without parameters of their own. The fields that carry the
signature are structured fields (RFC 8941), of which the subset in question is read strictly: what
is signed is built from what was understood, not from what was written.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from streamguard.errors import ProtocolError

MAX_FIELD = 4_096
"""Characters of ``Signature`` and of ``Signature-Input``."""
MAX_COMPONENTS = 32
CLOCK_SKEW_S = 3.0

_KEY = r"[a-z*][a-z0-9_.*-]*"
_STRING = r'"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"'
# Single spaces alone, as everybody writes them: strangers choose what these are matched against.
_COMPONENT = re.compile(_STRING)
_INPUT = re.compile(
    rf"({_KEY})=(\( ?(?:{_STRING}(?: {_STRING})*)? ?\))"
    rf"((?:; ?{_KEY}=(?:{_STRING}|-?\d{{1,15}}))*)"
)
_PARAMETER = re.compile(rf"; ?({_KEY})=({_STRING}|-?\d{{1,15}})")
_SIGNATURE = re.compile(rf"({_KEY})=:([A-Za-z0-9+/=]*):")


@dataclass(frozen=True, slots=True)
class SignatureInput:
    """What a signature covers, and on what terms."""

    components: tuple[str, ...]
    parameters: Mapping[str, str | int]
    signature: bytes
    base: str = field(repr=False)
    """The inner list in its canonical form: the value of ``@signature-params``."""


def parse_signature(signature: str, signature_input: str) -> SignatureInput:
    """The one signature of a request. Raises ProtocolError."""
    if max(len(signature), len(signature_input)) > MAX_FIELD:
        raise ProtocolError("signature", "too_long")
    given = _SIGNATURE.fullmatch(signature.strip())
    terms = _INPUT.fullmatch(signature_input.strip())
    if given is None or terms is None or given[1] != terms[1]:
        raise ProtocolError("signature", "unreadable")
    try:
        raw = base64.b64decode(given[2], validate=True)
    except (binascii.Error, ValueError) as err:
        raise ProtocolError("signature", "unreadable") from err
    components = tuple(_unquote(text) for text in _COMPONENT.findall(terms[2]))
    if len(components) > MAX_COMPONENTS or len(set(components)) != len(components):
        raise ProtocolError("signature", "components")
    parameters: dict[str, str | int] = {}
    for key, value in _PARAMETER.findall(terms[3]):
        if key in parameters:
            raise ProtocolError("signature", "parameters")
        parameters[key] = _unquote(value) if value.startswith('"') else int(value)
    listed = " ".join(_quote(name) for name in components)
    options = "".join(f";{key}={_bare(value)}" for key, value in parameters.items())
    return SignatureInput(components, parameters, raw, f"({listed}){options}")


def verify(
    terms: SignatureInput,
    key: bytes,
    headers: Mapping[str, str],
    target: str,
    required: frozenset[str],
    now_utc: float,
    max_age_s: float,
) -> None:
    """Raises ProtocolError unless the signature is right, fresh and covers what is ``required``.

    ``headers`` by lower-case name; ``target`` is path and query as requested.
    """
    if not required <= set(terms.components):
        raise ProtocolError("signature", "not_covered")
    if terms.parameters.get("alg", "hmac-sha256") != "hmac-sha256":
        raise ProtocolError("signature", "algorithm")
    created, expires = terms.parameters.get("created"), terms.parameters.get("expires")
    if not isinstance(created, int) or not -CLOCK_SKEW_S <= now_utc - created <= max_age_s:
        raise ProtocolError("signature", "age")
    if expires is not None and (not isinstance(expires, int) or expires < now_utc - CLOCK_SKEW_S):
        raise ProtocolError("signature", "age")
    lines = []
    for name in terms.components:
        value = target if name == "@request-target" else _header(name, headers)
        lines.append(f"{_quote(name)}: {value}")
    lines.append(f'"@signature-params": {terms.base}')
    signed = "\n".join(lines).encode("utf-8", "surrogateescape")
    expected = hmac.new(key, signed, hashlib.sha256).digest()
    if not hmac.compare_digest(expected, terms.signature):
        raise ProtocolError("signature", "signature")


def _header(name: str, headers: Mapping[str, str]) -> str:
    value = headers.get("host" if name == "@authority" else name)
    if value is None:
        raise ProtocolError("signature", "components")
    return value.strip().lower() if name == "@authority" else value.strip()


def _unquote(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1])


def _quote(text: str) -> str:
    return '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'


def _bare(value: str | int) -> str:
    return _quote(value) if isinstance(value, str) else str(value)
