"""An ASGI app with a lifecycle, which tells how the function was started. `FAILS_IN` is a step that fails."""

import os
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

steps: list[str] = []


def _step(name: str, *details: object) -> None:
    if os.environ.get("FAILS_IN") == name:
        raise RuntimeError(f"{name} failed")
    steps.append(" ".join((name, *map(str, details))))


class Lifecycle:
    """Notes what it is asked for."""

    async def prepare(self, *, connect: bool = True) -> None:
        _step("prepare", connect)

    async def before_snapshot(self) -> None:
        _step("before_snapshot")

    async def after_restore(self) -> None:
        _step("after_restore")


async def echo(_: Request) -> JSONResponse:
    told: Any = {"steps": steps}
    return JSONResponse(told)


lifecycle = Lifecycle()
app = Starlette(routes=[Route("/echo", echo)])
