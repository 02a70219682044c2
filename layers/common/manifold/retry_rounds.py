"""How often lines of a batch that failed run again, as a client or `config.yaml` writes it: `retry_failed_lines`."""

from typing import Annotated

from pydantic import BeforeValidator, Field

MOST_ROUNDS = 5
ROUNDS = 2
"""Of `retry_failed_lines: true`."""


def _rounds(written: object) -> object:
    return written * ROUNDS if isinstance(written, bool) else written


Rounds = Annotated[int, Field(strict=True, ge=0, le=MOST_ROUNDS), BeforeValidator(_rounds)]
