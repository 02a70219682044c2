"""The rules of OpenAI's structured outputs for a schema with `strict`.

https://platform.openai.com/docs/guides/structured-outputs#supported-schemas
"""

from collections.abc import Iterator, Mapping
from typing import Any

from local.provider.refusal import Refusal

Context = tuple[str, ...]
MANY = ("properties", "$defs", "definitions")
UNKNOWN = ("allOf", "oneOf", "not", "if", "dependentRequired", "dependentSchemas", "patternProperties")


def check_strict(schema: Mapping[str, Any], name: str, param: str) -> None:
    """Raise a `Refusal` in OpenAI's words."""
    if schema.get("type") != "object":
        raise _refusal(
            name, param, (), f"schema must be a JSON Schema of 'type: \"object\"', got 'type: {schema.get('type')}'"
        )
    for context, inner in _all(schema, ()):
        for problem in _problems(inner):
            raise _refusal(name, param, context, problem)


def _problems(schema: Mapping[str, Any]) -> Iterator[str]:
    unknown = next((word for word in UNKNOWN if word in schema), None)
    if unknown is not None:
        yield f"'{unknown}' is not permitted"
    if "object" not in (schema.get("type"), *_types(schema)):
        return
    if schema.get("additionalProperties") is not False:
        yield "'additionalProperties' is required to be supplied and to be false"
    missing = sorted(schema.get("properties", {}).keys() - set(schema.get("required", ())))
    if missing:
        words = "'required' is required to be supplied and to be an array including every key in properties"
        yield f"{words}. Missing '{missing[0]}'"


def _types(schema: Mapping[str, Any]) -> list[str]:
    written = schema.get("type")
    return written if isinstance(written, list) else []


def _all(schema: Mapping[str, Any], context: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    yield context, schema
    inner: list[tuple[tuple[str, ...], Mapping[str, Any]]] = [
        ((name, key), one) for name in MANY for key, one in schema.get(name, {}).items()
    ]
    inner += [(("anyOf", str(index)), one) for index, one in enumerate(schema.get("anyOf", ()))]
    inner += [(("items",), schema["items"])] if isinstance(schema.get("items"), dict) else []
    for path, one in inner:
        yield from _all(one, (*context, *path))


def _refusal(name: str, param: str, context: Context, problem: str) -> Refusal:
    kind, code = "function", "invalid_function_parameters"
    if param == "response_format":
        kind, code = "response_format", "invalid_json_schema"
    return Refusal(400, code, f"Invalid schema for {kind} '{name}': In context={context}, {problem}.", param)
