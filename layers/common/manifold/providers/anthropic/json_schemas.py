"""JSON schemas as Claude's structured outputs accept them, which is a part of JSON Schema.

Members that are not accepted become text in the `description`, which the model may follow, as in Anthropic's SDK.
https://platform.claude.com/docs/en/build-with-claude/structured-outputs#json-schema-limitations
"""

from collections.abc import Container, Mapping
from typing import Any

import orjson

from manifold.providers.content_parts import invalid_value

Schema = dict[str, Any]

MAX_DEPTH = 100
"""Levels of schemas within schemas. orjson writes 254 levels of JSON, and a schema may take two."""
FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"})
COMBINED = ("anyOf", "oneOf", "allOf")
"""The first of these that a schema has is kept; `oneOf` becomes `anyOf`.

A combination of schemas that have not at least a type goes into the description."""
KINDS = frozenset({"type", "enum", "const", "$ref", "anyOf", "allOf"})
"""Members of which each variant must have one."""
DEFINITIONS = ("$defs", "definitions")
PLAIN = ("type", "title", "description", "enum", "const")
IMPLIED: Mapping[str, str] = {"properties": "object", "items": "array", "format": "string"}
"""The type of a schema without one, by its members."""


def strict_schema(schema: Mapping[str, Any], path: str) -> Schema:
    """A copy with what Claude accepts, and the rest as text. `InvalidRequest` names `path` if it is too deep."""
    strict: Schema = _Strict(path).schema(dict(schema), 0)
    return strict


def dereferenced(schema: Mapping[str, Any]) -> Schema:
    """A copy in which a `$ref` at the top is replaced by its definition: a tool's arguments must be an object."""
    kind, _, name = str(schema.get("$ref")).removeprefix("#/").partition("/")
    definitions = schema.get(kind) if kind in DEFINITIONS else None
    definition = definitions.get(name) if isinstance(definitions, dict) else None
    if not isinstance(definition, dict):
        return dict(schema)
    return {**{member: value for member, value in schema.items() if member != "$ref"}, **definition}


class _Strict:
    """Copies one schema. `left` holds the members that are not yet copied, and ends up in the description."""

    def __init__(self, path: str) -> None:
        self._path = path

    def schema(self, schema: Any, depth: int) -> Any:
        """The copy. A schema that is no object, such as `true`, is left unchanged."""
        if not isinstance(schema, dict):
            return schema
        if depth > MAX_DEPTH:
            raise invalid_value(self._path, f"must not have more than {MAX_DEPTH} schemas within each other")
        left = _typed(schema)
        kinds = _kinds(left.get("type"))
        kept = {name: self._each(left.pop(name), depth) for name in DEFINITIONS if isinstance(left.get(name), dict)}
        if "$ref" in left:
            return {**kept, "$ref": left["$ref"]}
        kept |= self._combined(left, depth)
        kept |= _plain(left, typed=not any(name in kept for name in COMBINED))
        for kind, members in (("object", self._object), ("array", self._array), ("string", _string)):
            if kind in kinds:
                kept |= members(left, depth)
        return self._with_description(kept, left)

    def _each(self, schemas: Mapping[str, Any], depth: int) -> Schema:
        return {name: self.schema(schema, depth + 1) for name, schema in schemas.items()}

    def _combined(self, left: Schema, depth: int) -> Schema:
        member = next((name for name in COMBINED if isinstance(left.get(name), list)), None)
        if member is None:
            return {}
        variants = [self.schema(variant, depth + 1) for variant in left[member]]
        if not all(map(_has_kind, variants)):
            return {}
        del left[member]
        return {"anyOf" if member == "oneOf" else member: variants}

    def _object(self, left: Schema, depth: int) -> Schema:
        properties = left.pop("properties", None)
        left.pop("additionalProperties", None)
        required = {"required": left.pop("required")} if isinstance(left.get("required"), list) else {}
        each = self._each(properties, depth) if isinstance(properties, dict) else {}
        return {"properties": each, **required, "additionalProperties": False}

    def _array(self, left: Schema, depth: int) -> Schema:
        items = {"items": self.schema(left.pop("items"), depth + 1)} if "items" in left else {}
        return items | _if_in(left, "minItems", (0, 1))

    def _with_description(self, kept: Schema, left: Mapping[str, Any]) -> Schema:
        """Append `left` to the description, as text."""
        if not left:
            return kept
        text = "{" + ", ".join(f"{name}: {self._text(value)}" for name, value in left.items()) + "}"
        description = kept.get("description")
        return kept | {"description": f"{description}\n\n{text}" if description else text}

    def _text(self, value: object) -> str:
        return value if isinstance(value, str) else to_json(value, self._path)


def to_json(value: object, path: str) -> str:
    """The value as JSON. `InvalidRequest` names `path` if it is nested too deep."""
    try:
        return orjson.dumps(value).decode()
    except TypeError as error:
        raise invalid_value(path, "is nested too deep") from error


def _has_kind(schema: object) -> bool:
    return isinstance(schema, dict) and not KINDS.isdisjoint(schema)


def _typed(schema: Mapping[str, Any]) -> Schema:
    implied = next((kind for name, kind in IMPLIED.items() if name in schema), None)
    return ({"type": implied} if implied else {}) | dict(schema)


def _string(left: Schema, depth: int) -> Schema:
    return _if_in(left, "format", FORMATS)


def _if_in(left: Schema, name: str, known: Container[object]) -> Schema:
    """The member, if its value is known. Else it stays in `left`, as its last member."""
    value = left.pop(name, None)
    if isinstance(value, int | str) and value in known:
        return {name: value}
    if value is not None:
        left[name] = value
    return {}


def _plain(left: Schema, *, typed: bool) -> Schema:
    """The members that are kept unchanged. Plain values of `enum` and `const` make `type` unnecessary."""
    kept = {name: left.pop(name) for name in PLAIN if name in left and _is_plain(name, left[name])}
    if not typed or "enum" in kept or "const" in kept:
        kept.pop("type", None)
    return kept


def _is_plain(name: str, value: object) -> bool:
    if name == "enum":
        return isinstance(value, list) and bool(value) and not any(isinstance(one, dict | list) for one in value)
    return name != "const" or not isinstance(value, dict | list)


def _kinds(type_: object) -> frozenset[object]:
    return frozenset(kind for kind in (type_ if isinstance(type_, list) else [type_]) if isinstance(kind, str))
