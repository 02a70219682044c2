"""The completions function, whose first answer tells in a header which modules were imported for it."""

import sys
from typing import Any

from completions.app import app as completions
from completions.app import lifecycle

__all__ = ["app", "lifecycle"]


async def app(scope: Any, receive: Any, send: Any) -> None:
    before = set(sys.modules)

    async def watched(message: Any) -> None:
        if message["type"] == "http.response.start":
            imported = " ".join(sorted(set(sys.modules) - before))
            message["headers"] = [*message["headers"], (b"x-imported", imported.encode())]
        await send(message)

    await completions(scope, receive, watched)
