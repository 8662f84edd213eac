"""Small YAML files from elsewhere: plain data only, nothing that can surprise a parser."""

from __future__ import annotations

from typing import Any

import yaml

MAX_DEPTH = 16
"""Deeper than any schema of ours; a parser must not recurse without end."""


class PlainDataError(ValueError):
    """Not plain YAML; the message says where."""


class _Loader(yaml.SafeLoader):
    """Refuses duplicate keys, where YAML would silently keep the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            where = f"line {key.start_mark.line + 1}"
            if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
                raise PlainDataError(f"{where}: keys must be text")
            if key.value in seen:
                raise PlainDataError(f"{where}: {key.value}: given twice")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def parse_plain(data: bytes) -> Any:
    """One YAML document without aliases, duplicate keys or deep nesting. Raises PlainDataError."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as err:
        raise PlainDataError(f"not UTF-8: {err.reason} at byte {err.start}") from err
    try:
        _refuse_tricks(text)
        # _Loader is a SafeLoader: it makes no objects.
        return yaml.load(text, Loader=_Loader)  # noqa: S506
    except yaml.YAMLError as err:
        raise PlainDataError(f"not YAML: {' '.join(str(err).split())}") from err
    except ValueError as err:  # an impossible date, say; PlainDataError passes as it is
        raise (
            err if isinstance(err, PlainDataError) else PlainDataError(f"not YAML: {err}")
        ) from err


def _refuse_tricks(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise PlainDataError(f"*{event.anchor}: aliases are not allowed")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise PlainDataError(f"nested more than {MAX_DEPTH} deep")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
