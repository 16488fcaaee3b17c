"""The operations of an .onnx file, by name and by what they read and give, read without its weights or any package."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from mmap import ACCESS_READ, mmap
from pathlib import Path

from edgekit.errors import ArtifactError
from edgekit.record import Record

__all__ = ["Node", "list_nodes", "merged_into"]

# Fields of the messages of onnx.proto, by number.
_GRAPH = 7
_NODES = 1
_INPUT, _OUTPUT, _NAME, _TYPE, _ATTRIBUTE = 1, 2, 3, 4, 5
_BODY, _BODIES = 6, 11

_PRODUCTS = {
    "Conv", "ConvInteger", "QLinearConv", "ConvTranspose", "MatMul", "MatMulInteger", "QLinearMatMul", "Gemm",
    "MatMulNBits", "LSTM", "GRU", "RNN", "Einsum",
}  # fmt: skip

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


class Node(Record):
    """One operation; `inputs` and `outputs` are names of values."""

    name: str
    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def list_nodes(path: Path) -> list[Node]:
    """Every operation in the order of the file, those of bodies behind the one that holds them.

    Raises:
        ArtifactError: The file is cut off.
    """
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content, memoryview(content) as whole:
        try:
            return [node for _, graph in _fields(whole, _GRAPH) for node in _nodes(graph)]
        except (IndexError, UnicodeDecodeError) as error:
            raise ArtifactError(f"{path} is damaged", hint="copy or export it again") from error


def _nodes(graph: memoryview) -> Iterator[Node]:
    for _, message in _fields(graph, _NODES):
        texts: dict[int, list[str]] = {_INPUT: [], _OUTPUT: [], _NAME: [], _TYPE: []}
        bodies = []
        for number, value in _fields(message):
            if number in texts:
                texts[number].append(str(value, "utf-8"))
            elif number == _ATTRIBUTE:
                bodies += [body for at in (_BODY, _BODIES) for _, body in _fields(value, at)]
        yield Node("".join(texts[_NAME]), "".join(texts[_TYPE]), tuple(texts[_INPUT]), tuple(texts[_OUTPUT]))
        for body in bodies:
            yield from _nodes(body)


def _fields(message: memoryview, only: int | None = None) -> Iterator[tuple[int, memoryview]]:
    """The fields of a protobuf message that hold bytes, or those of one number; IndexError where it is cut off."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == _LENGTH:
            size, at = _varint(message, at)
            if at + size > len(message):
                raise IndexError
            if only is None or key >> 3 == only:
                yield key >> 3, message[at : at + size]
            at += size
        elif kind == _VARINT:
            _, at = _varint(message, at)
        elif kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
        else:
            raise IndexError


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def merged_into(nodes: Iterable[Node], kept: Mapping[str, int]) -> dict[int, list[str]]:
    """Which operations of a file went into each that an engine kept.

    An engine names what it fused after one of the parts. A product it does not name went into what is named behind it,
    its activation. Anything else it does not name went where what it reads comes from, of two such the later, as sums
    and activations are done on the results of a product; and what reads nothing computed went where it is read.

    Args:
        nodes: Of the file, in an order they can run in.
        kept: For the names of operations the engine names, the number of its own one.

    Returns:
        For each of those numbers the names of the file's operations, the one it is named after first.
    """
    nodes = list(nodes)
    places = {node.name: kept[node.name] for node in nodes if node.name in kept}
    makers = {value: node for node in nodes for value in node.outputs if value}
    readers: dict[str, list[Node]] = {}
    for node in nodes:
        for value in filter(None, node.inputs):
            readers.setdefault(value, []).append(node)
    for node in nodes:
        if node.op_type in _PRODUCTS and node.name not in places:
            for step in (chain := _until_named(node, readers, places)):
                places[step.name] = places[chain[-1].name]
    for node in nodes:
        before = [places[m.name] for value in node.inputs if (m := makers.get(value)) and m.name in places]
        if node.op_type not in _PRODUCTS and node.name not in places and before:
            places[node.name] = max(before)
    for node in reversed(nodes):
        behind = {places.get(reader.name) for value in node.outputs for reader in readers.get(value, ())}
        is_free = node.op_type not in _PRODUCTS and not any(value in makers for value in node.inputs)
        if node.name not in places and is_free and len(behind) == 1 and None not in behind:
            places[node.name] = next(number for number in behind if number is not None)
    found: dict[int, list[str]] = {}
    for node in sorted((n for n in nodes if n.name in places), key=lambda n: n.name not in kept):
        found.setdefault(places[node.name], []).append(node.name)
    return found


def _until_named(node: Node, readers: Mapping[str, list[Node]], named: Mapping[str, int]) -> list[Node]:
    """`node` and what alone reads it, one after the other, up to the first that is named; none where there is none."""
    chain = [node]
    while chain[-1].name not in named:
        behind = [reader for value in chain[-1].outputs for reader in readers.get(value, ())]
        if len(behind) != 1 or behind[0].op_type in _PRODUCTS:
            return []
        chain.append(behind[0])
    return chain
