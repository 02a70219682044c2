"""The JSON Schema that structured outputs take: Claude's, and Bedrock's for every model.

https://platform.claude.com/docs/en/build-with-claude/structured-outputs#json-schema-limitations
https://docs.aws.amazon.com/bedrock/latest/userguide/structured-output.html
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from local.provider.refusal import Refusal

FORMATS = {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"}
ALL = {"type", "title", "description", "default", "enum", "const", "anyOf", "allOf", "$ref", "$defs", "definitions"}
BY_TYPE = {
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "minItems"},
    "string": {"format", "pattern"},
}
WITHIN_MANY = ("properties", "$defs", "definitions")
KINDS = ("type", "anyOf", "allOf", "$ref", "enum", "const")


def check(schema: Mapping[str, Any], where: str) -> None:
    """Raise a `Refusal` that names the first member or value that is not supported."""
    for one in _all(schema):
        for problem in _problems(one):
            raise Refusal(400, None, f"{where}: {problem}")
    if _recurs(schema, schema, ()):
        raise Refusal(400, None, f"{where}: Recursive schemas are not supported")


def _all(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """This schema and all within it."""
    open_ones = [schema]
    while open_ones:
        one = open_ones.pop()
        if not isinstance(one, dict):
            raise Refusal(400, None, "A schema must be an object")
        yield one
        open_ones += _within(one)


def _within(schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    many = [inner for name in WITHIN_MANY for inner in schema.get(name, {}).values()]
    many += [inner for name in ("anyOf", "allOf") for inner in schema.get(name, ())]
    return [*many, schema["items"]] if "items" in schema else many


def _types(schema: Mapping[str, Any]) -> list[str]:
    written = schema.get("type", [])
    return written if isinstance(written, list) else [written]


def _problems(schema: Mapping[str, Any]) -> Iterator[str]:
    yield from _wrong_members(schema, _types(schema))
    yield from _wrong_values(schema)


def _wrong_members(schema: Mapping[str, Any], types: Sequence[str]) -> Iterator[str]:
    unknown = schema.keys() - ALL.union(*(BY_TYPE.get(kind, set()) for kind in types or BY_TYPE))
    if "oneOf" in unknown:
        yield "Schema type 'oneOf' is not supported"
    if unknown:
        yield f"For '{', '.join(types)}' type, properties {', '.join(sorted(unknown))} are not supported"
    if not any(kind in schema for kind in KINDS):
        yield "Schema must have a type"
    if ("object" in types or "properties" in schema) and schema.get("additionalProperties") is not False:
        yield "For 'object' type, 'additionalProperties' must be explicitly set to false"


def _wrong_values(schema: Mapping[str, Any]) -> Iterator[str]:
    if schema.get("minItems", 0) not in (0, 1):
        yield "For 'array' type, 'minItems' values other than 0 or 1 are not supported"
    if schema.get("format", "date") not in FORMATS:
        yield f"For 'string' type, format '{schema['format']}' is not supported"
    if any(isinstance(value, dict | list) for value in schema.get("enum", ())):
        yield "Complex types within enums are not supported"
    if not str(schema.get("$ref", "#")).startswith("#"):
        yield "External $ref is not supported"


def _recurs(schema: Mapping[str, Any], root: Mapping[str, Any], above: tuple[str, ...]) -> bool:
    ref = schema.get("$ref")
    if ref in above:
        return True
    inner = [_at(root, ref)] if ref else _within({name: value for name, value in schema.items() if "def" not in name})
    return any(_recurs(one, root, (*above, ref) if ref else above) for one in inner)


def _at(root: Mapping[str, Any], ref: str) -> Mapping[str, Any]:
    value: Any = root
    for name in filter(None, ref.removeprefix("#").split("/")):
        value = value[name]
    return dict(value)
