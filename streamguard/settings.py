"""The base of every configuration section, and how a section names a secret.

Sections live beside the code that they configure (``sources/settings.py``, ``alerts/settings.py``);
``config.py`` puts them together and says where a mistake is.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Section(BaseModel):
    """Immutable; an unknown key is an error; every field has a description."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Secret(Section):
    """A secret by reference: its value is never in the configuration, a dump or a log."""

    env: str | None = Field(default=None, description="Name of the environment variable")
    file: Path | None = Field(default=None, description="File whose first line is the secret")
    credential: str | None = Field(
        default=None,
        description="Name of a file in $CREDENTIALS_DIRECTORY (systemd) or /run/secrets",
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if sum(x is not None for x in (self.env, self.file, self.credential)) != 1:
            raise ValueError("name exactly one of env, file, credential")
        return self

    def read(self) -> str:
        """The secret itself. Raises ValueError saying where it was looked for."""
        if self.env is not None:
            value = os.environ.get(self.env)
            if not value:
                raise ValueError(f"environment variable {self.env} is not set")
            return value
        if self.file is not None:
            path = self.file
        else:
            base = os.environ.get("CREDENTIALS_DIRECTORY", "/run/secrets")
            path = Path(base) / str(self.credential)
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except OSError as err:
            raise ValueError(f"cannot read the secret file {path} ({err.strerror})") from err
        if not lines or not lines[0]:
            raise ValueError(f"the secret file {path} is empty")
        return lines[0]


def secrets_in(section: Section) -> list[Secret]:
    """Every secret that this section or one inside it names."""
    found: list[Secret] = []
    for name in type(section).model_fields:
        value = getattr(section, name)
        items = value if isinstance(value, tuple) else (value,)
        for item in items:
            if isinstance(item, Secret):
                found.append(item)
            elif isinstance(item, Section):
                found += secrets_in(item)
    return found
