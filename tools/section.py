"""A section of a recipe as settings, with errors that name the key and what is allowed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from streamguard.errors import StreamguardError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Settings = TypeVar("Settings", bound=DataclassInstance)


class RecipeError(StreamguardError):
    """A section of a recipe has a key or a value that it may not have."""


def section(kind: type[Settings], name: str, values: Mapping[str, Any] | None) -> Settings:
    """The settings dataclass of these values; None is an empty section. Raises RecipeError.

    A value of the wrong kind is the dataclass's to refuse (by ValueError).
    """
    values = {} if values is None else values
    if not isinstance(values, Mapping):
        raise RecipeError(f"{name}: {values!r}: a mapping of keys to values")
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}
    for key in values:
        if key not in fields:
            raise RecipeError(f"{name}.{key}: no such key; one of {', '.join(fields)}")
    for key, field in fields.items():
        missing = field.default is field.default_factory is dataclasses.MISSING
        if missing and key not in values:
            raise RecipeError(f"{name}.{key}: is missing")
    try:
        return kind(**values)
    except (TypeError, ValueError) as err:
        text = str(err)
        raise RecipeError(text if text.startswith(name) else f"{name}: {text}") from err
