"""`os.environ/NAME` in the place of a text, a number or a switch: replaced by its value when the file is read."""

from collections.abc import Callable

from pydantic import BeforeValidator, ValidationInfo
from pydantic_core import PydanticCustomError

from manifold.config import yaml_file
from manifold.config.settings import REFERENCE, reference_name

Lookup = Callable[[str], str | None]
"""The value of a name; an empty one counts as none. A `ConfigError` says why nothing can be looked up."""


class References:
    """The names that one reading of a file looks up: pydantic's context for `ByName` and `NumberByName`."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self._values: dict[str, str] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Those that were looked up and have a value."""
        return tuple(self._values)

    def value(self, name: str) -> str:
        """The same at each mention; a validation error names what has none."""
        found = self._values.get(name) or self._lookup(name)
        if not found:
            raise PydanticCustomError("no_value", "{name} has no value", {"name": name})
        self._values[name] = found
        return found

    def hidden(self, message: str) -> str:
        """The message with names for the values that it quotes, or for their providers: any of them may be a key."""
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


ByName = BeforeValidator(_text)
NumberByName = BeforeValidator(_number)
"""Of a switch, too: the value is read as it would be if it stood in the file."""
