"""What the table of all systems lists: a file of rows, each a recipe with changes, or a bundle."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tools.data import DataError

ROWS_FILE = Path(__file__).with_name("rows.yaml")
MODELS = Path(__file__).parents[2] / "models"
SCHEMA = "streamguard.gallery/1"
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")
_KEYS = frozenset(
    ("name", "title", "group", "recipe", "set", "bundle", "init", "epochs", "reported")
)


@dataclass(frozen=True, slots=True)
class Row:
    """One system of the table."""

    name: str
    """Also of its run folder."""
    title: str
    group: str
    """Heading of the table that it stands in."""
    recipe: Path
    """What it is trained by; of a bundle, what it was trained by."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """``section.key`` of the recipe to another value."""
    bundle: str | None = None
    """A committed bundle, which is measured as it is and not trained."""
    init: str | None = None
    """Name of the row whose weights it begins with."""
    epochs: int | None = None
    """In place of the recipe's."""
    reported: str = ""
    """What the text says of it, on its own data."""


@dataclass(frozen=True, slots=True)
class Gallery:
    """All rows in the order of the table."""

    baseline: str
    """Bundle whose cost is measured beside that of every row."""
    rows: tuple[Row, ...]

    def named(self, name: str) -> Row:
        return next(row for row in self.rows if row.name == name)


def read_gallery(path: Path = ROWS_FILE, models: Path = MODELS) -> Gallery:
    """Read the file of rows; recipes are relative to ``models``. Raises DataError."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, yaml.YAMLError) as err:
        raise DataError(path, 0, "file", path.name, f"must be YAML in UTF-8 ({err})") from err
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise DataError(path, 1, "schema", "", SCHEMA)
    entries = content.get("rows")
    if not isinstance(entries, list) or not entries:
        raise DataError(path, 1, "rows", repr(entries), "a list of rows")
    rows: list[Row] = []
    for number, entry in enumerate(entries):
        rows.append(_row(path, f"rows[{number}]", entry, models, [row.name for row in rows]))
    return Gallery(baseline=str(content.get("baseline", "subband")), rows=tuple(rows))


def _row(path: Path, where: str, entry: object, models: Path, before: list[str]) -> Row:
    def wrong(key: str, value: object, allowed: str) -> DataError:
        return DataError(path, 0, f"{where}.{key}", str(value), allowed)

    if not isinstance(entry, dict):
        raise DataError(path, 0, where, repr(entry), "a mapping")
    unknown = sorted(entry.keys() - _KEYS)
    if unknown:
        raise wrong(unknown[0], entry[unknown[0]], "one of " + ", ".join(sorted(_KEYS)))
    for key in ("name", "title", "group", "recipe"):
        if not isinstance(entry.get(key), str):
            raise wrong(key, entry.get(key), "a text; it must be given")
    name = entry["name"]
    if not _NAME.fullmatch(name):
        raise wrong("name", name, "lower-case letters, digits and . _ -")
    if name in before:
        raise wrong("name", name, "used by one row only")
    recipe = models / entry["recipe"]
    if not recipe.is_file():
        raise wrong("recipe", entry["recipe"], f"a file below {models}")
    changes = entry.get("set", {})
    if not isinstance(changes, dict) or not all(isinstance(key, str) for key in changes):
        raise wrong("set", changes, "a mapping of SECTION.KEY to a value")
    init = entry.get("init")
    if init is not None and init not in before:
        raise wrong("init", init, "the name of a row above")
    epochs = entry.get("epochs")
    if epochs is not None and (not isinstance(epochs, int) or epochs < 1):
        raise wrong("epochs", epochs, "a whole number from 1")
    return Row(
        name=name,
        title=entry["title"],
        group=entry["group"],
        recipe=recipe,
        changes=changes,
        bundle=entry.get("bundle"),
        init=init,
        epochs=epochs,
        reported=entry.get("reported", ""),
    )
