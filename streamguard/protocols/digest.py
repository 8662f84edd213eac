"""Digest authentication, the server's side (RFC 7616, in SIP RFC 8760): no I/O, no clock."""

from __future__ import annotations

import enum
import hashlib
import hmac
import re
import secrets
from collections import OrderedDict
from collections.abc import Mapping

from streamguard.errors import ProtocolError
from streamguard.protocols.sip_values import quote, split_list, unquote

NONCE_LIFE_S = 300.0
MAX_NONCES = 4_096
"""Nonces in use whose counts are remembered; older ones become stale when more are used."""
_HEX8 = re.compile(r"[0-9A-Fa-f]{8}\Z")


class Algorithm(enum.StrEnum):
    """RFC 8760 wants the strongest first; MD5 is for peers that know nothing else."""

    SHA_256 = "SHA-256"
    MD5 = "MD5"


_HASHES = {Algorithm.SHA_256: hashlib.sha256, Algorithm.MD5: hashlib.md5}


class Outcome(enum.Enum):
    """What became of an answer to a challenge."""

    ACCEPTED = "accepted"
    STALE = "stale"
    """Right, but the nonce is too old, or its count was used before: a new nonce will do."""
    REFUSED = "refused"


class DigestGate:
    """Challenges and answers for one realm. Nonces are signed and cost nothing until they are
    used: a flood of requests without credentials leaves no trace in memory."""

    def __init__(
        self,
        realm: str,
        passwords: Mapping[str, str],
        algorithms: tuple[Algorithm, ...] = tuple(Algorithm),
    ) -> None:
        self._realm = realm
        self._passwords = dict(passwords)
        self._algorithms = algorithms
        self._key = secrets.token_bytes(32)
        self._counts: OrderedDict[str, int] = OrderedDict()
        self._oldest = 0.0
        """Nonces made before this have been forgotten: whether they were used is not known."""

    def challenges(self, now: float, *, stale: bool = False) -> list[str]:
        """Values of WWW-Authenticate, one per algorithm, the strongest first."""
        nonce = self._make_nonce(now)
        suffix = ", stale=true" if stale else ""
        return [
            f"Digest realm={quote(self._realm)}, nonce={quote(nonce)}, "
            f'algorithm={algorithm.value}, qop="auth"{suffix}'
            for algorithm in self._algorithms
        ]

    def check(self, authorization: str, method: str, now: float) -> Outcome:
        """Judge an Authorization value. The URI is the one that the peer has hashed: a proxy may
        have rewritten the request's. Raises ProtocolError where it cannot be read."""
        fields = parse_authorization(authorization)
        try:
            algorithm = Algorithm(fields.get("algorithm", "MD5").upper())
        except ValueError:
            return Outcome.REFUSED
        nonce, count = fields.get("nonce", ""), fields.get("nc", "")
        password = self._passwords.get(fields.get("username", ""))
        if (
            algorithm not in self._algorithms
            or password is None
            or fields.get("realm") != self._realm
            or fields.get("qop", "").lower() != "auth"
            or not _HEX8.match(count)
        ):
            return Outcome.REFUSED
        expected = respond(fields, method, password, algorithm)
        given = fields.get("response", "").lower().encode()
        made_at = self._made_at(nonce)
        if made_at is None or not hmac.compare_digest(expected.encode(), given):
            return Outcome.REFUSED
        if not 0 <= now - made_at <= NONCE_LIFE_S or made_at < self._oldest:
            return Outcome.STALE
        return self._count(nonce, int(count, 16), made_at)

    def _count(self, nonce: str, count: int, made_at: float) -> Outcome:
        if count <= self._counts.get(nonce, 0):
            return Outcome.STALE
        self._counts[nonce] = count
        self._counts.move_to_end(nonce)
        if len(self._counts) > MAX_NONCES:
            gone, _ = self._counts.popitem(last=False)
            # Its count is lost, so it and all that are no younger are not taken again.
            self._oldest = max(self._oldest, (self._made_at(gone) or made_at) + 1e-6)
        return Outcome.ACCEPTED

    def _make_nonce(self, now: float) -> str:
        text = f"{round(now * 1e6):016x}{secrets.token_hex(8)}"
        return text + self._sign(text)

    def _made_at(self, nonce: str) -> float | None:
        """When we made it; None if we did not."""
        text, signature = nonce[:32], nonce[32:]
        if not hmac.compare_digest(self._sign(text).encode(), signature.encode("utf-8", "replace")):
            return None
        return int(text[:16], 16) / 1e6

    def _sign(self, text: str) -> str:
        message = text.encode("utf-8", "replace")
        return hmac.new(self._key, message, hashlib.sha256).hexdigest()[:32]


def parse_authorization(value: str) -> dict[str, str]:
    """The fields of ``Digest name=value, ...``, names in lower case. Raises ProtocolError."""
    scheme, _, rest = value.strip().partition(" ")
    if scheme.lower() != "digest":
        raise ProtocolError("digest", "scheme")
    fields: dict[str, str] = {}
    for item in split_list(rest):
        name, equals, text = item.partition("=")
        name = name.strip().lower()
        if not equals or not name or name in fields:
            raise ProtocolError("digest", "field")
        fields[name] = unquote(text.strip())
    return fields


def respond(fields: Mapping[str, str], method: str, password: str, algorithm: Algorithm) -> str:
    """The response to a challenge, quality of protection ``auth`` (RFC 7616 section 3.4.1)."""

    def digest(*words: str) -> str:
        data = ":".join(words).encode("utf-8", "surrogateescape")
        return _HASHES[algorithm](data).hexdigest()

    def field(name: str) -> str:
        return fields.get(name, "")

    who = digest(field("username"), field("realm"), password)
    what = digest(method, field("uri"))
    return digest(who, field("nonce"), field("nc"), field("cnonce"), field("qop"), what)
