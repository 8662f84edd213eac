"""Whether an ONNX file keeps tensors in other files, found without the onnx package.

Walks the protobuf wire format along the fields that lead to a tensor (onnx.proto3, IR version 13).
A runtime would follow such a reference to any path on the machine, past the bundle's hashes.
"""

from __future__ import annotations

from collections.abc import Iterator

_MODEL, _GRAPH, _NODE, _ATTRIBUTE, _TENSOR, _SPARSE, _FUNCTION = range(7)
_CHILDREN: dict[int, dict[int, int]] = {
    _MODEL: {7: _GRAPH, 25: _FUNCTION},
    _GRAPH: {1: _NODE, 5: _TENSOR, 15: _SPARSE},
    _NODE: {5: _ATTRIBUTE},
    _ATTRIBUTE: {5: _TENSOR, 6: _GRAPH, 10: _TENSOR, 11: _GRAPH, 22: _SPARSE, 23: _SPARSE},
    _SPARSE: {1: _TENSOR, 2: _TENSOR},
    _FUNCTION: {7: _NODE, 11: _ATTRIBUTE},
    _TENSOR: {},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class NotOnnxError(ValueError):
    """The bytes are not a well-formed protobuf message."""


def has_external_data(data: bytes) -> bool:
    """Whether any tensor of the model lies outside the file. Raises NotOnnxError."""
    view = memoryview(data)
    found_graph = False
    stack = [(_MODEL, 0, len(data))]
    while stack:
        kind, start, stop = stack.pop()
        children = _CHILDREN[kind]
        for field, wire, first, last in _fields(view, start, stop):
            if wire == _BYTES and field in children:
                stack.append((children[field], first, last))
                found_graph = found_graph or (kind == _MODEL and field == 7)
            elif kind == _TENSOR and field == _EXTERNAL_DATA:
                return True
            elif kind == _TENSOR and field == _DATA_LOCATION and wire == _VARINT and first:
                return True
    if not found_graph:
        raise NotOnnxError("no graph in it")
    return False


def _fields(view: memoryview, at: int, stop: int) -> Iterator[tuple[int, int, int, int]]:
    """(field, wire type, value or start, stop) of each field of one message."""
    while at < stop:
        key, at = _varint(view, at, stop)
        field, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, at = _varint(view, at, stop)
            yield field, wire, value, at
        elif wire == _BYTES:
            size, at = _varint(view, at, stop)
            if size > stop - at:
                raise NotOnnxError("a field reaches past its message")
            yield field, wire, at, at + size
            at += size
        elif wire in (_FIXED32, _FIXED64):
            at += 4 if wire == _FIXED32 else 8
            if at > stop:
                raise NotOnnxError("a field reaches past its message")
        else:
            raise NotOnnxError(f"wire type {wire} is not one of protobuf 3")


def _varint(view: memoryview, at: int, stop: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= stop:
            break
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise NotOnnxError("a number does not end")
