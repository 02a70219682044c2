"""Settings of `config.yaml` that are a value, `https://…`, or a reference to one, `os.environ/AZURE_API_BASE`."""

import re
from dataclasses import dataclass, field
from types import NoneType
from typing import Annotated, get_args

from pydantic_core import CoreSchema, PydanticCustomError, core_schema

REFERENCE = "os.environ/"

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class PlainText:
    """The value itself. It may be a key, so neither `repr` nor `str` shows it."""

    text: str = field(repr=False)

    @property
    def written(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class SecretName:
    """The name of the value in the secret or the environment."""

    name: str

    @property
    def written(self) -> str:
        return REFERENCE + self.name


Setting = PlainText | SecretName


@dataclass(frozen=True, slots=True)
class DefaultName:
    """A name that the file does not contain, looked up by default. Without a value, the setting is not set."""

    name: str

    @property
    def written(self) -> str:
        return REFERENCE + self.name


def reference_name(written: object) -> str | None:
    """The name in `os.environ/NAME`; `None` for anything else. Raises a validation error for an invalid name."""
    if not isinstance(written, str) or not written.startswith(REFERENCE):
        return None
    name = written.removeprefix(REFERENCE)
    if not _NAME.fullmatch(name):
        raise PydanticCustomError("secret_name", "must name a variable after os.environ/: letters, digits and _")
    return name


def _parse(written: object) -> Setting:
    if not isinstance(written, str):
        raise PydanticCustomError("string_type", "must be text")
    if not written:
        raise PydanticCustomError("empty_text", "is empty")
    name = reference_name(written)
    return PlainText(written) if name is None else SecretName(name)


class _Parsed:
    """Has pydantic call `_parse`. A `PlainValidator` would also build the schema of `Setting`, for each field anew."""

    def __get_pydantic_core_schema__(self, source: object, handler: object) -> CoreSchema:
        parsed = core_schema.no_info_plain_validator_function(_parse)
        return core_schema.nullable_schema(parsed) if NoneType in get_args(source) else parsed


SettingValue = Annotated[Setting, _Parsed()]
OptionalSetting = Annotated[Setting | None, _Parsed()]
