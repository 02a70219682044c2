"""Durations as LiteLLM writes them: `90s`, `15m`, `12h`, `30d`, `2w`, `1mo`."""

import re
from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800, "mo": 2_592_000}
_LONGEST = timedelta(days=36_500)
_HELP = "write a number and a unit (s, m, h, d, w, or mo for 30 days), as in '30d', for at most 100 years"


def parse(text: object) -> timedelta:
    """The duration of a text such as `30d`; raises a `ValueError` that shows how to write one."""
    match = re.fullmatch(r"([0-9]{1,10})(s|mo|m|h|d|w)", text) if isinstance(text, str) else None
    seconds = int(match[1]) * _SECONDS[match[2]] if match else 0
    if not 0 < seconds <= _LONGEST.total_seconds():
        raise ValueError(_HELP)
    return timedelta(seconds=seconds)


def _checked(text: str) -> str:
    parse(text)
    return text


Duration = Annotated[timedelta, BeforeValidator(parse)]
DurationText = Annotated[str, AfterValidator(_checked)]
"""A valid duration, kept as the text that was sent."""
