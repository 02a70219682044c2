"""References `os.environ/NAME` for a text, a number or a boolean, replaced by their values when the file is read."""

from collections.abc import Callable

from pydantic import GetCoreSchemaHandler, ValidationInfo
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from manifold.config import yaml_file
from manifold.config.settings import REFERENCE, reference_name

Lookup = Callable[[str], str | None]
"""Returns the value of a name, or `None`; an empty value counts as none. Raises `ConfigError` if look-ups fail."""


class References:
    """The names that are looked up while a file is read: pydantic's context for `ByName` and `NumberByName`."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self._values: dict[str, str] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The names that were looked up and have a value."""
        return tuple(self._values)

    def value(self, name: str) -> str:
        """The value of a name, the same at each mention. Raises a validation error if it has none."""
        value = self._values.get(name) or self._lookup(name)
        if not value:
            raise PydanticCustomError("no_value", "{name} has no value", {"name": name})
        self._values[name] = value
        return value

    def hidden(self, message: str) -> str:
        """The message with references in place of the values (or their prefixes) that it quotes, which may be keys."""
        for name, value in self._values.items():
            for quoted in (value, value.partition("/")[0]):
                message = message.replace(repr(quoted), repr(REFERENCE + name))
        return message


def _text(written: object, info: ValidationInfo[References]) -> object:
    name = reference_name(written)
    return written if name is None else info.context.value(name)


def _number(written: object, info: ValidationInfo[References]) -> object:
    name = reference_name(written)
    return written if name is None else yaml_file.scalar(info.context.value(name))


class _LookedUp:
    """A `BeforeValidator` that spares pydantic the look at the function's signature, for each field anew."""

    def __init__(self, look_up: core_schema.WithInfoValidatorFunction) -> None:
        self._look_up = look_up

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_before_validator_function(self._look_up, handler(source))


ByName = _LookedUp(_text)
NumberByName = _LookedUp(_number)
"""For booleans, too: the value is parsed as YAML would parse it in the file."""
