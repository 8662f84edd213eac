"""A small, safe reader of XML: elements by local name, no document types, no entities, caps.

Untrusted bytes in, a tree or a :class:`~streamguard.errors.ProtocolError` out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.parsers import expat

from streamguard.errors import ProtocolError

MAX_BYTES = 65_536
MAX_DEPTH = 32
MAX_ELEMENTS = 2_048


@dataclass(slots=True)
class Element:
    """One element. Names, of attributes too, are in lower case and without their prefix: peers
    disagree on name spaces and spelling."""

    name: str
    attributes: dict[str, str]
    text: str = ""
    children: list[Element] = field(default_factory=list)

    def all(self, name: str) -> Iterator[Element]:
        """Direct children of that name."""
        return (child for child in self.children if child.name == name)

    def first(self, name: str) -> Element | None:
        return next(self.all(name), None)

    def walk(self) -> Iterator[Element]:
        """The element and everything below it, in the order of the document."""
        yield self
        for child in self.children:
            yield from child.walk()


def parse_xml(data: bytes) -> Element:
    """The root element. UTF-8 whatever the declaration says, or ProtocolError."""
    if len(data) > MAX_BYTES:
        raise ProtocolError("xml", "oversized")
    builder = _Builder()
    # The encoding is fixed: one that the document names would be looked up among all codecs.
    parser = expat.ParserCreate(encoding="utf-8")
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.text
    parser.StartDoctypeDeclHandler = _refuse
    parser.EntityDeclHandler = _refuse
    parser.UnparsedEntityDeclHandler = _refuse
    parser.ExternalEntityRefHandler = _refuse
    try:
        parser.Parse(data, True)
    except expat.ExpatError as err:
        raise ProtocolError("xml", "malformed", f"line {err.lineno}: not well-formed") from err
    assert builder.root is not None  # a document without an element is not well-formed
    return builder.root


def _refuse(*_: object) -> int:
    raise ProtocolError("xml", "document_type", "document types and entities are refused")


class _Builder:
    def __init__(self) -> None:
        self.root: Element | None = None
        self._open: list[Element] = []
        self._count = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._count += 1
        if self._count > MAX_ELEMENTS or len(self._open) >= MAX_DEPTH:
            raise ProtocolError("xml", "too_large")
        local = {_local(key): value for key, value in attributes.items()}
        element = Element(_local(name), local)
        if self._open:
            self._open[-1].children.append(element)
        else:
            self.root = element
        self._open.append(element)

    def end(self, name: str) -> None:
        element = self._open.pop()
        element.text = element.text.strip()

    def text(self, data: str) -> None:
        self._open[-1].text += data


def _local(name: str) -> str:
    return name.rpartition(":")[2].lower()
