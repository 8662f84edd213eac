"""Which legs are monitored: by role, by who is on them, and from when. Pure.

Numbers and trunks stand nowhere: the configuration names them by a keyed hash (HMAC-SHA256,
RFC 2104), the events that carry them are hashed at the monitor's door, and only the operator's own
names of trunks go further, into metrics.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from streamguard.errors import ConfigError, ConfigProblem
from streamguard.events import Identity, IdentityKind, LegRole, LegStarted
from streamguard.settings import Secret, Section
from streamguard.sources.section import SourceName

TAG_CHARS = 32
"""128 bits in hexadecimal: numbers are few, and the key keeps them from being tried out."""
MAX_TRUNKS = 64
"""Each is a label value in the metrics."""
OTHER_TRUNK = "other"
MIN_KEY_CHARS = 16

Tag = Annotated[str, Field(pattern=f"^[0-9a-f]{{{TAG_CHARS}}}$")]
TrunkName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,32}$")]

_SCHEME = re.compile(r"^(sips?|tel):", re.IGNORECASE)
_NUMBER = re.compile(r"^\+?[0-9*#]{1,32}$")
_VISUAL = re.compile(r"[\s().\-/]")


class Exclusion(enum.StrEnum):
    """Why a leg is not monitored."""

    ROLE = "role"
    ALLOWED = "allowed"


class SourcePolicy(Section):
    """What differs for one source; null is as for all."""

    roles: tuple[LegRole, ...] | None = Field(default=None, description="Roles that are monitored")
    early_media: Literal["exclude", "monitor"] | None = Field(
        default=None, description="What comes before the answer"
    )


class PolicySettings(Section):
    """Which legs are monitored, and which synthetic speech is legitimate."""

    roles: tuple[LegRole, ...] = Field(
        default=tuple(LegRole),
        min_length=1,
        description="Roles that are monitored: caller, callee, mixed, unknown",
    )
    early_media: Literal["exclude", "monitor"] = Field(
        default="exclude",
        description="What comes before the answer (ringback, announcements), where a source knows",
    )
    identity_key: Secret | None = Field(
        default=None, description="Key of the hashes below; at least 16 characters"
    )
    allow: tuple[Tag, ...] = Field(
        default=(),
        max_length=10_000,
        description="Hashes of numbers and trunks that are not monitored (check --hash-identity)",
    )
    trunks: dict[TrunkName, Tag] = Field(
        default={},
        max_length=MAX_TRUNKS,
        description="Names of trunks in the metrics, and their hashes",
    )
    sources: dict[SourceName, SourcePolicy] = Field(
        default={}, description="What differs for a source, by its name"
    )

    @model_validator(mode="after")
    def _hashes_need_a_key(self) -> Self:
        if (self.allow or self.trunks) and self.identity_key is None:
            raise ValueError("allow and trunks are hashes: identity_key must say by which key")
        if OTHER_TRUNK in self.trunks:
            raise ValueError(f"trunks: {OTHER_TRUNK!r} is the name of all that have none")
        return self


def normalised(identity: Identity) -> str:
    """One spelling for what is written in many: ``sip:+49 30 12-3@pbx;user=phone`` -> ``+4930123``.

    A number is what is left of the host, without marks for the eye; a name (``sip:ivr@pbx``) keeps
    its host; a trunk is taken as it is, in lower case.
    """
    text = identity.value.strip()
    if identity.kind is IdentityKind.TRUNK:
        return text.lower()
    bare = _SCHEME.sub("", text).split(";")[0].split("?")[0]
    user = _VISUAL.sub("", bare.partition("@")[0])
    return user if _NUMBER.match(user) else bare.lower()


def identity_tag(key: bytes, identity: Identity) -> str:
    """The hash under which the configuration names a number or trunk."""
    text = f"{identity.kind.value}:{normalised(identity)}"
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()[:TAG_CHARS]


class Policy:
    """The rules of one configuration; asked once per leg, and again when its role changes."""

    def __init__(self, settings: PolicySettings, key: bytes | None = None) -> None:
        self._settings = settings
        self._key = key
        self._allow = frozenset(settings.allow)
        self._trunks = {tag: name for name, tag in settings.trunks.items()}

    @classmethod
    def of(cls, settings: PolicySettings, config_path: Path) -> Policy:
        """With the key that the settings name. Raises ConfigError where it cannot be had."""
        if settings.identity_key is None:
            return cls(settings)
        return cls(settings, read_key(settings.identity_key, config_path))

    def exclusion(self, source: str, role: LegRole) -> Exclusion | None:
        """Whether a role is left out, whoever it is."""
        override = self._settings.sources.get(source)
        roles = override.roles if override is not None else None
        monitored = self._settings.roles if roles is None else roles
        return None if role in monitored else Exclusion.ROLE

    def is_allowed(self, started: LegStarted) -> bool:
        """Whether synthetic speech of this party is legitimate."""
        return bool(self._allow) and not self._allow.isdisjoint(self._tags(started))

    def trunk(self, started: LegStarted) -> str:
        """The operator's name of the leg's trunk."""
        if self._trunks:
            for tag in self._tags(started):
                if tag in self._trunks:
                    return self._trunks[tag]
        return OTHER_TRUNK

    def hears_early_media(self, source: str) -> bool:
        override = self._settings.sources.get(source)
        chosen = override.early_media if override is not None else None
        return (chosen or self._settings.early_media) == "monitor"

    def _tags(self, started: LegStarted) -> list[str]:
        key = self._key
        return [identity_tag(key, one) for one in started.identities] if key is not None else []


def read_key(secret: Secret, config_path: Path) -> bytes:
    """Raises ConfigError where it cannot be read, or is too short to keep numbers from guessing."""
    try:
        key = secret.read()
        if len(key) < MIN_KEY_CHARS:
            raise ValueError(f"at least {MIN_KEY_CHARS} characters are needed")
    except ValueError as err:
        problem = ConfigProblem(str(config_path), 0, "policy.identity_key", "***", str(err))
        raise ConfigError((problem,)) from err
    return key.encode()
