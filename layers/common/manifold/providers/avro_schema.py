"""Avro's binary encoding: a schema becomes a function that decodes one datum, into values that JSON has.

Bytes become text, and an enumeration its symbol. Logical types (times, decimals) are left as they are stored.
https://avro.apache.org/docs/1.12.0/specification/#binary-encoding
"""

import struct
from collections.abc import Callable, Mapping
from typing import Any

LONGEST_NUMBER = 10
"""Bytes of a 64-bit number."""


class Datum:
    """The bytes of one or more data, and where the next one begins. All methods raise `ValueError` at the end."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.at = 0

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        start, end = self.at, self.at + size
        if not start <= end <= len(self.content):
            raise ValueError("a datum that is too short")
        self.at = end
        return self.content[start:end]

    def number(self) -> int:
        """The next number: zigzag, with seven bits in each byte, the lowest first."""
        bits = 0
        for shift in range(0, 7 * LONGEST_NUMBER, 7):
            (byte,) = self.take(1)
            bits |= (byte & 0x7F) << shift
            if byte < 0x80:
                return (bits >> 1) ^ -(bits & 1)
        raise ValueError("a number that is too long")

    def count(self) -> int:
        """The count of the next block of an array or a map, 0 after the last. A negative one precedes its size."""
        count = self.number()
        if count < 0:
            count = -count
            self.number()
        if count > len(self.content):
            raise ValueError("more items than bytes")
        return count


Decode = Callable[[Datum], Any]

PRIMITIVES: Mapping[str, Decode] = {
    "null": lambda datum: None,
    "boolean": lambda datum: datum.take(1) != b"\x00",
    "int": Datum.number,
    "long": Datum.number,
    "float": lambda datum: struct.unpack("<f", datum.take(4))[0],
    "double": lambda datum: struct.unpack("<d", datum.take(8))[0],
    "bytes": lambda datum: datum.take(datum.number()).decode(errors="replace"),
    "string": lambda datum: datum.take(datum.number()).decode(errors="replace"),
}
PACKED: Mapping[object, tuple[str, int]] = {"float": ("f", 4), "double": ("d", 8)}
"""Items of a fixed size, each with `struct`'s letter: an array of them, such as an embedding, is decoded at once."""


def decoder(schema: Any) -> Decode:
    """The decoder of this schema, as its JSON is. `ValueError`, `LookupError` or `TypeError` if it is none."""
    return _decoder(schema, dict(PRIMITIVES))


def _decoder(schema: Any, names: dict[str, Decode]) -> Decode:
    if isinstance(schema, str):
        return names[schema]
    if isinstance(schema, list):
        branches = [_decoder(branch, names) for branch in schema]
        return lambda datum: branches[_index(datum)](datum)
    kind = schema["type"]
    complex_type = _COMPLEX.get(kind) if isinstance(kind, str) else None
    return complex_type(schema, names) if complex_type else _decoder(kind, names)


def _record(schema: Mapping[str, Any], names: dict[str, Decode]) -> Decode:
    fields: list[tuple[str, Decode]] = []

    def decode(datum: Datum) -> dict[str, Any]:
        return {name: field(datum) for name, field in fields}

    _name(schema, names, decode)  # before its fields, which may be of the same type
    fields += [(field["name"], _decoder(field["type"], names)) for field in schema["fields"]]
    return decode


def _array(schema: Mapping[str, Any], names: dict[str, Decode]) -> Decode:
    items = schema["items"]
    packed, item = PACKED.get(items if isinstance(items, str) else None), _decoder(items, names)

    def decode(datum: Datum) -> list[Any]:
        values: list[Any] = []
        while count := datum.count():
            if packed:
                letter, size = packed
                values += struct.unpack(f"<{count}{letter}", datum.take(count * size))
            else:
                values += [item(datum) for _ in range(count)]
        return values

    return decode


def _map(schema: Mapping[str, Any], names: dict[str, Decode]) -> Decode:
    key, value = PRIMITIVES["string"], _decoder(schema["values"], names)

    def decode(datum: Datum) -> dict[str, Any]:
        values: dict[str, Any] = {}
        while count := datum.count():
            values |= {key(datum): value(datum) for _ in range(count)}
        return values

    return decode


def _enum(schema: Mapping[str, Any], names: dict[str, Decode]) -> Decode:
    symbols = schema["symbols"]
    return _name(schema, names, lambda datum: symbols[_index(datum)])


def _fixed(schema: Mapping[str, Any], names: dict[str, Decode]) -> Decode:
    size = int(schema["size"])
    return _name(schema, names, lambda datum: datum.take(size).decode(errors="replace"))


_COMPLEX: Mapping[str, Callable[[Mapping[str, Any], dict[str, Decode]], Decode]] = {
    "record": _record,
    "array": _array,
    "map": _map,
    "enum": _enum,
    "fixed": _fixed,
}


def _name(schema: Mapping[str, Any], names: dict[str, Decode], decode: Decode) -> Decode:
    """Let the rest of the schema use this type: by its name, and by its name within its namespace."""
    name = schema["name"]
    names[name] = decode
    if schema.get("namespace") and "." not in name:
        names[f"{schema['namespace']}.{name}"] = decode
    names[name.rpartition(".")[2]] = decode
    return decode


def _index(datum: Datum) -> int:
    index = datum.number()
    if index < 0:
        raise ValueError("an index below 0")
    return index
