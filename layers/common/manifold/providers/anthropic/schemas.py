"""JSON schemas as Claude's structured outputs take them, which is a part of what JSON Schema has.

What is not taken becomes words of the `description`, which the model may follow, as Anthropic's own SDK does it.
https://platform.claude.com/docs/en/build-with-claude/structured-outputs#json-schema-limitations
"""

from collections.abc import Container, Mapping
from typing import Any

import orjson

from manifold.providers.content_parts import invalid_value

Schema = dict[str, Any]

MAX_DEPTH = 100
"""Schemas within schemas. A body of JSON is written to 254 levels, of which each may take two."""
FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"})
COMBINED = ("anyOf", "oneOf", "allOf")
"""Of these, the first that a schema has counts; `oneOf` is said as `anyOf`.

One of schemas that say less than a type is said in words."""
KINDS = frozenset({"type", "enum", "const", "$ref", "anyOf", "allOf"})
"""Members of which a schema must have one."""
DEFINITIONS = ("$defs", "definitions")
PLAIN = ("type", "title", "description", "enum", "const")
IMPLIED: Mapping[str, str] = {"properties": "object", "items": "array", "format": "string"}
"""The type of a schema that has none, by its members."""


def strict_schema(schema: Mapping[str, Any], path: str) -> Schema:
    """A copy with what Claude takes, and the rest in words. `InvalidRequest` names `path` if it is nested too deep."""
    strict: Schema = _Strict(path).schema(dict(schema), 0)
    return strict


def dereferenced(schema: Mapping[str, Any]) -> Schema:
    """A copy, with what a reference in the place of the whole refers to: a tool's arguments must be an object."""
    kind, _, name = str(schema.get("$ref")).removeprefix("#/").partition("/")
    definitions = schema.get(kind) if kind in DEFINITIONS else None
    found = definitions.get(name) if isinstance(definitions, dict) else None
    if not isinstance(found, dict):
        return dict(schema)
    return {**{member: value for member, value in schema.items() if member != "$ref"}, **found}


class _Strict:
    """The copying of one schema."""

    def __init__(self, path: str) -> None:
        self._path = path

    def schema(self, schema: Any, depth: int) -> Any:
        """What is no object, such as `true`, is left for the provider to judge."""
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
        return self._with_words(kept, left)

    def _each(self, schemas: Mapping[str, Any], depth: int) -> Schema:
        return {name: self.schema(schema, depth + 1) for name, schema in schemas.items()}

    def _combined(self, left: Schema, depth: int) -> Schema:
        found = next((name for name in COMBINED if isinstance(left.get(name), list)), None)
        if found is None:
            return {}
        variants = [self.schema(variant, depth + 1) for variant in left[found]]
        if not all(map(_says_what, variants)):
            return {}
        del left[found]
        return {"anyOf" if found == "oneOf" else found: variants}

    def _object(self, left: Schema, depth: int) -> Schema:
        properties = left.pop("properties", None)
        left.pop("additionalProperties", None)
        required = {"required": left.pop("required")} if isinstance(left.get("required"), list) else {}
        each = self._each(properties, depth) if isinstance(properties, dict) else {}
        return {"properties": each, **required, "additionalProperties": False}

    def _array(self, left: Schema, depth: int) -> Schema:
        items = {"items": self.schema(left.pop("items"), depth + 1)} if "items" in left else {}
        return items | _if_in(left, "minItems", (0, 1))

    def _with_words(self, kept: Schema, left: Mapping[str, Any]) -> Schema:
        """`left` in words, after the description."""
        if not left:
            return kept
        words = "{" + ", ".join(f"{name}: {self._word(value)}" for name, value in left.items()) + "}"
        described = kept.get("description")
        return kept | {"description": f"{described}\n\n{words}" if described else words}

    def _word(self, value: object) -> str:
        return value if isinstance(value, str) else written(value, self._path)


def written(value: object, path: str) -> str:
    """JSON. `InvalidRequest` names `path` if it is nested too deep to be written."""
    try:
        return orjson.dumps(value).decode()
    except TypeError as error:
        raise invalid_value(path, "is nested too deep") from error


def _says_what(schema: object) -> bool:
    return isinstance(schema, dict) and not KINDS.isdisjoint(schema)


def _typed(schema: Mapping[str, Any]) -> Schema:
    implied = next((kind for name, kind in IMPLIED.items() if name in schema), None)
    return ({"type": implied} if implied else {}) | dict(schema)


def _string(left: Schema, depth: int) -> Schema:
    return _if_in(left, "format", FORMATS)


def _if_in(left: Schema, name: str, known: Container[object]) -> Schema:
    """The member, if its value is known; else it stays, as the last."""
    value = left.pop(name, None)
    if isinstance(value, int | str) and value in known:
        return {name: value}
    if value is not None:
        left[name] = value
    return {}


def _plain(left: Schema, *, typed: bool) -> Schema:
    """What is kept as it is. The values of an `enum` and a `const` tell their type, if they are plain."""
    kept = {name: left.pop(name) for name in PLAIN if name in left and _is_plain(name, left[name])}
    if not typed or "enum" in kept or "const" in kept:
        kept.pop("type", None)
    return kept


def _is_plain(name: str, value: object) -> bool:
    if name == "enum":
        return isinstance(value, list) and bool(value) and not any(isinstance(one, dict | list) for one in value)
    return name != "const" or not isinstance(value, dict | list)


def _kinds(written: object) -> frozenset[object]:
    return frozenset(kind for kind in (written if isinstance(written, list) else [written]) if isinstance(kind, str))
