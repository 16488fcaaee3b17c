"""What a .tflite file says of its state, found as FlatBuffers lie in memory.

So no schema needs to be installed. Layout: https://flatbuffers.dev/internals. A damaged file leads nowhere or to
garbage, never out of the file, for a slice ends where the file does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekit.spec import STATE_KEY, StatePair, state_pairs

if TYPE_CHECKING:
    import mmap

__all__ = ["keeps_state", "state_of"]

_OPERATOR_CODES, _SUBGRAPHS, _BUFFERS, _METADATA = 1, 2, 4, 6
"""Fields of the schema's ``Model``."""
_TENSORS, _IS_VARIABLE = 0, 5
"""Fields of ``SubGraph`` and of ``Tensor``."""
_BUILTIN, _VAR_HANDLE = 3, 142
"""A field of ``OperatorCode``, and the operation all variables come from."""


def state_of(content: bytes | mmap.mmap) -> tuple[StatePair, ...]:
    """The pairs edgekit left in the metadata of a file, none where it left none. Raises ArtifactError."""
    model = _target(content, 0)
    for entry in _rows(content, _field(content, model, _METADATA)):
        name, place = _field(content, entry, 0), _field(content, entry, 1)
        if not name or _bytes(content, _target(content, name)) != STATE_KEY.encode():
            continue
        buffers, number = _rows(content, _field(content, model, _BUFFERS)), _number(content, place, 4) if place else 0
        if number < len(buffers):
            data, offset, size = (_field(content, buffers[number], index) for index in range(3))
            begin = _number(content, offset, 8) if offset and size else 0
            behind = content[begin : begin + _number(content, size, 8)] if begin else b""
            text = behind or (_bytes(content, _target(content, data)) if data else b"")
            return state_pairs(text.decode(errors="replace"))
    return ()


def keeps_state(content: bytes | mmap.mmap) -> bool:
    """Whether an interpreter remembers from one call to the next: tensors that are variable, or variables."""
    model = _target(content, 0)
    for code in _rows(content, _field(content, model, _OPERATOR_CODES)):
        if (place := _field(content, code, _BUILTIN)) and _number(content, place, 4) == _VAR_HANDLE:
            return True
    return any(
        (place := _field(content, tensor, _IS_VARIABLE)) and content[place]
        for graph in _rows(content, _field(content, model, _SUBGRAPHS))
        for tensor in _rows(content, _field(content, graph, _TENSORS))
    )


def _number(content: bytes | mmap.mmap, place: int, size: int) -> int:
    return int.from_bytes(content[place : place + size], "little")


def _target(content: bytes | mmap.mmap, place: int) -> int:
    """Where the offset at `place` leads."""
    return place + _number(content, place, 4)


def _field(content: bytes | mmap.mmap, table: int, number: int) -> int:
    """Where a field of a table is; 0 for one that is left out."""
    layout = table - int.from_bytes(content[table : table + 4], "little", signed=True)
    entry = 4 + 2 * number
    offset = _number(content, layout + entry, 2) if entry < _number(content, layout, 2) else 0
    return table + offset if offset else 0


def _rows(content: bytes | mmap.mmap, field: int) -> list[int]:
    """Where the tables of a vector are."""
    if not field:
        return []
    first = _target(content, field) + 4
    count = min(_number(content, first - 4, 4), len(content) // 4)
    return [_target(content, first + 4 * index) for index in range(count)]


def _bytes(content: bytes | mmap.mmap, vector: int) -> bytes:
    return content[vector + 4 : vector + 4 + _number(content, vector, 4)]
