"""Cuts an exported graph in two, where `tagger export` says that it can be cut.

The lower part sees a few frames for each column of its maps, the upper part sees the whole window. So the lower part's
columns can be kept from window to window (`tagger.engine.columns`).

A graph is a message of protocol buffers (onnx.proto): fields behind one another, each with its number, and messages in
them again. A device has no package that reads it, so this module does: it sorts the nodes, and copies everything else.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from tagger.checkpoints.graph import CUT_KEY

_GRAPH, _METADATA = 7, 14
"""Fields of a model."""
_NODE, _INITIALIZER, _INPUT, _OUTPUT, _VALUE_INFO = 1, 5, 11, 12, 13
"""Fields of a graph."""
_NODE_INPUT, _NODE_OUTPUT, _INITIALIZER_NAME, _VALUE_NAME = 1, 2, 8, 1
_KEY, _VALUE = 1, 2
_VARINT, _FIXED_64, _MESSAGE, _FIXED_32 = 0, 1, 2, 5
"""Wire types."""


@dataclass(frozen=True)
class Parts:
    """A graph in two parts."""

    lower: bytes
    """Features to maps, [B, channels, rows, columns]."""
    upper: bytes
    """Maps to the network's outputs."""
    maps: str
    """Name of the maps: the lower part's output, and the upper part's input."""
    frames: int
    """Frames from one column to the next."""
    reach: int
    """Column c depends on no frame further than this from frame `frames` * c."""
    digest: bytes
    """Of the lower part without metadata: equal for networks that differ in what is above alone."""


@dataclass(eq=False)
class _Field:
    number: int
    wire: int
    content: bytes

    @cached_property
    def fields(self) -> list["_Field"]:
        """Those of the message that it holds."""
        return list(_fields(self.content))

    def text(self, number: int) -> list[str]:
        """The strings of its message that have this field number."""
        return [each.content.decode() for each in self.fields if each.number == number and each.wire == _MESSAGE]

    def __bytes__(self) -> bytes:
        size = _varint(len(self.content)) if self.wire == _MESSAGE else b""
        return _varint(self.number << 3 | self.wire) + size + self.content


def parts_of(model: bytes) -> Parts | None:
    """The two parts of a graph; None: it is not said where it can be cut.

    Raises:
        ValueError: the file is damaged.
    """
    fields = list(_fields(model))
    said = [each for each in fields if each.number == _METADATA and each.text(_KEY) == [CUT_KEY]]
    if not said:
        return None
    maps, *numbers = "".join(said[0].text(_VALUE)).split() or [""]
    if len(numbers) != 2 or not all(each.isdecimal() for each in numbers) or not int(numbers[0]):
        raise ValueError(f"the graph's {CUT_KEY} does not say where to cut it")
    frames, reach = map(int, numbers)
    graph = [each for field in fields if field.number == _GRAPH for each in field.fields]
    between = [each for each in graph if each.number == _VALUE_INFO and each.text(_VALUE_NAME) == [maps]]
    if len(between) != 1:
        raise ValueError(f"the graph has no {maps!r}")
    outputs = [name for each in graph if each.number == _OUTPUT for name in each.text(_VALUE_NAME)]
    lower = _needed(graph, [maps], ())
    upper = _needed(graph, outputs, (maps,))
    lower = [each for each in lower if each.number != _OUTPUT] + [_Field(_OUTPUT, _MESSAGE, between[0].content)]
    upper = [each for each in upper if each.number != _INPUT] + [_Field(_INPUT, _MESSAGE, between[0].content)]
    digest = hashlib.sha256(b"".join(bytes(each) for each in lower)).digest()
    return Parts(_with(fields, lower), _with(fields, upper), maps, frames, reach, digest)


def _needed(graph: Sequence[_Field], outputs: Sequence[str], given: Sequence[str]) -> list[_Field]:
    """The graph without nodes and weights that these outputs do not need, if some values are given."""
    nodes = [each for each in graph if each.number == _NODE]
    wanted, kept = set(outputs) - set(given), set()
    for node in reversed(nodes):  # a node stands behind those that it needs
        if wanted.intersection(node.text(_NODE_OUTPUT)):
            kept.add(id(node))
            wanted.update(set(node.text(_NODE_INPUT)) - set(given))
    return [
        each
        for each in graph
        if (each.number != _NODE or id(each) in kept)
        and (each.number != _INITIALIZER or wanted.intersection(each.text(_INITIALIZER_NAME)))
        and each.number != _VALUE_INFO
    ]


def _with(model: Sequence[_Field], graph: Sequence[_Field]) -> bytes:
    """The model with another graph."""
    content = b"".join(bytes(each) for each in graph)
    return b"".join(bytes(_Field(_GRAPH, _MESSAGE, content) if each.number == _GRAPH else each) for each in model)


def _fields(message: bytes) -> Iterator[_Field]:
    at = 0
    while at < len(message):
        key, at = _read_varint(message, at)
        wire, start = key & 7, at
        if wire == _VARINT:
            _, end = _read_varint(message, at)
        elif wire == _MESSAGE:
            size, start = _read_varint(message, at)
            end = start + size
        elif wire in (_FIXED_32, _FIXED_64):
            end = at + (4 if wire == _FIXED_32 else 8)
        else:
            raise ValueError(f"no protocol buffer: wire type {wire}")
        if end > len(message):
            raise ValueError("no protocol buffer: it ends early")
        yield _Field(key >> 3, wire, message[start:end])
        at = end


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    """A number of 7 bits a byte, the lowest first, and where the next field begins."""
    if at < len(message) and message[at] < 128:
        return message[at], at + 1
    value = shift = 0
    while at < len(message) and shift < 70:
        value |= (message[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if message[at - 1] < 128:
            return value, at
    raise ValueError("no protocol buffer: a number does not end")


def _varint(value: int) -> bytes:
    written = bytearray()
    while value > 127:
        written.append(value & 127 | 128)
        value >>= 7
    return bytes([*written, value])
