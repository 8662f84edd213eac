"""Who may open a media connection: what the request that opens it must carry. No I/O, no clock.

Every check raises ProtocolError with one word on why. Secrets are compared in constant time.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from streamguard.errors import ProtocolError
from streamguard.protocols.http_signature import parse_signature, verify
from streamguard.protocols.json_fields import number_in, parse_object, text_in

MAX_AGE_S = 300.0
"""Of a signed token without an end of its own."""
SIGNATURE_AGE_S = 10.0
"""Of an AudioHook signature, which is made for one request."""
MIN_NONCE = 22
"""Characters: 128 bits in base64."""
MAX_SEEN = 100_000
"""Nonces and token ids that are remembered; more in their lifetime is an attack."""
CLOCK_SKEW_S = 30.0
_MAX_TOKEN = 4_096


@dataclass(frozen=True, slots=True)
class Handshake:
    """The request that wants to become a connection."""

    headers: Mapping[str, str]
    """By lower-case name; repeated ones joined with a comma."""
    target: str
    """Path and query, as requested."""


class Check(Protocol):
    """One way of being known."""

    def __call__(self, request: Handshake, now_utc: float) -> None:
        """Raises ProtocolError for a stranger. ``now_utc`` in POSIX seconds."""


@dataclass(slots=True)
class Seen:
    """What may be used once; forgotten when it has expired anyway."""

    limit: int = MAX_SEEN
    _until: dict[str, float] = field(default_factory=dict)

    def once(self, name: str, until: float, now: float) -> None:
        """Raises ProtocolError the second time, and when too many are in use."""
        if len(self._until) >= self.limit:
            self._until = {key: end for key, end in self._until.items() if end > now}
        if self._until.get(name, now) > now:
            raise ProtocolError("handshake", "replayed")
        if len(self._until) >= self.limit:
            raise ProtocolError("handshake", "too_many")
        self._until[name] = until


@dataclass(frozen=True, slots=True)
class TokenCheck:
    """A shared token: as a bearer, bare, or as the password of a basic authentication."""

    token: str = field(repr=False)

    def __call__(self, request: Handshake, now_utc: float) -> None:
        given = request.headers.get("authorization", "").strip()
        scheme, _, rest = given.partition(" ")
        if scheme.lower() == "bearer":
            given = rest.strip()
        elif scheme.lower() == "basic":
            given = _basic_password(rest.strip())
        if not given or not same(given, self.token):
            raise ProtocolError("handshake", "unauthorized")


@dataclass(frozen=True, slots=True)
class TwilioCheck:
    """``X-Twilio-Signature``: base64 of HMAC-SHA1 over the URL (Twilio documentation, "Security").

    It is the same for every call: whoever has seen one can use it again, so keep TLS on.
    """

    auth_token: str = field(repr=False)
    url: str
    """As in the TwiML: what Twilio signs."""

    def __call__(self, request: Handshake, now_utc: float) -> None:
        given = request.headers.get("x-twilio-signature", "")
        # Twilio signs a URL with a slash at its end that was written without one, and vice versa.
        urls = (self.url, self.url.removesuffix("/") if self.url.endswith("/") else self.url + "/")
        right = False
        for url in urls:
            digest = hmac.new(self.auth_token.encode(), url.encode(), hashlib.sha1).digest()
            right |= same(given, base64.b64encode(digest).decode())
        if not right:
            raise ProtocolError("handshake", "unauthorized")


@dataclass(frozen=True, slots=True)
class JwtCheck:
    """A signed bearer token (RFC 7519, HS256), as Vonage sends it with the signature secret."""

    secret: str = field(repr=False)
    seen: Seen = field(default_factory=Seen)

    def __call__(self, request: Handshake, now_utc: float) -> None:
        scheme, _, token = request.headers.get("authorization", "").strip().partition(" ")
        parts = token.strip().split(".")
        if scheme.lower() != "bearer" or len(parts) != 3 or len(token) > _MAX_TOKEN:
            raise ProtocolError("handshake", "unauthorized")
        signed = f"{parts[0]}.{parts[1]}".encode("utf-8", "surrogateescape")
        expected = hmac.new(self.secret.encode(), signed, hashlib.sha256).digest()
        if not hmac.compare_digest(expected, _url_base64(parts[2])):
            raise ProtocolError("handshake", "unauthorized")
        if text_in(_claims(parts[0]), "alg") != "HS256":
            raise ProtocolError("handshake", "algorithm")
        claims = _claims(parts[1])
        issued = number_in(claims, "iat", 0, 1 << 40)
        expires = number_in(claims, "exp", 0, 1 << 40)
        if issued is None and expires is None:
            raise ProtocolError("handshake", "undated")
        until = float(expires) if expires is not None else float(issued or 0) + MAX_AGE_S
        begins = max(issued or 0, number_in(claims, "nbf", 0, 1 << 40) or 0)
        if not begins - CLOCK_SKEW_S <= now_utc <= until + CLOCK_SKEW_S:
            raise ProtocolError("handshake", "expired")
        # Not as it was written: base64 has several spellings of one signature.
        name = text_in(claims, "jti") or expected.hex()
        self.seen.once(name, until + CLOCK_SKEW_S, now_utc)


@dataclass(frozen=True, slots=True)
class AudioHookCheck:
    """``X-API-KEY`` and, with a client secret, a signature of the request that is used once."""

    api_key: str = field(repr=False)
    client_secret: bytes | None = field(repr=False)
    seen: Seen = field(default_factory=Seen)

    def __call__(self, request: Handshake, now_utc: float) -> None:
        known = same(request.headers.get("x-api-key", ""), self.api_key)
        if self.client_secret is not None:
            self._signed(request, self.client_secret, now_utc)
        if not known:
            raise ProtocolError("handshake", "unauthorized")

    def _signed(self, request: Handshake, key: bytes, now_utc: float) -> None:
        headers = request.headers
        terms = parse_signature(headers.get("signature", ""), headers.get("signature-input", ""))
        verify(terms, key, headers, request.target, _COVERED, now_utc, SIGNATURE_AGE_S)
        nonce, key_id = terms.parameters.get("nonce"), terms.parameters.get("keyid")
        if not isinstance(key_id, str) or not same(key_id, self.api_key):
            raise ProtocolError("handshake", "unauthorized")
        if not isinstance(nonce, str) or len(nonce) < MIN_NONCE:
            raise ProtocolError("handshake", "nonce")
        self.seen.once(nonce, now_utc + 2 * SIGNATURE_AGE_S, now_utc)


_COVERED = frozenset(
    {
        "@request-target",
        "@authority",
        "audiohook-organization-id",
        "audiohook-session-id",
        "audiohook-correlation-id",
        "x-api-key",
    }
)


def same(given: str, secret: str) -> bool:
    """Digests, so that the comparison takes the same time whatever the length."""
    return hmac.compare_digest(_digest(given), _digest(secret))


def _digest(text: str) -> bytes:
    # A header may hold lone surrogates (undecodable bytes), and so may JSON.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _basic_password(credentials: str) -> str:
    try:
        decoded = base64.b64decode(credentials, validate=True).decode("utf-8", "surrogateescape")
    except (binascii.Error, ValueError):
        return ""
    return decoded.partition(":")[2]


def _url_base64(text: str) -> bytes:
    """RFC 7515 section 2: base64url without padding."""
    try:
        padded = text.encode("ascii") + b"=" * (-len(text) % 4)
        return base64.b64decode(padded, altchars=b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error, ValueError) as err:
        raise ProtocolError("handshake", "unauthorized") from err


def _claims(part: str) -> dict[str, Any]:
    try:
        return parse_object(_url_base64(part).decode("utf-8"))
    except UnicodeDecodeError as err:
        raise ProtocolError("handshake", "unauthorized") from err
