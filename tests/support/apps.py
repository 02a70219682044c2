"""Every HTTP app of `functions/`, and its routes."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from fastapi import FastAPI

from manifold.gateway import Gateway

FUNCTIONS = Path(__file__).resolve().parents[2] / "functions"
NAMES = sorted(path.parent.name for path in FUNCTIONS.glob("*/app.py"))
PUBLIC = {("GET", "/health/liveliness"), ("GET", "/health/readiness")}
"""Routes that need no key."""

Route = tuple[str, str]


def create(name: str, gateway: Gateway) -> FastAPI:
    """The app of the function of this name, on this gateway."""
    make: Callable[[Gateway], FastAPI] = import_module(f"{name}.app").create
    return make(gateway)


def routes(app: FastAPI) -> list[Route]:
    """Method and path of each route, as the template writes them: `("GET", "/files/{file_id}")`."""
    paths = app.openapi()["paths"]
    return sorted((method.upper(), path) for path, methods in paths.items() for method in methods)


def every_route() -> list[tuple[str, str, str]]:
    """App, method and path of each route of each app."""
    nothing = Gateway()
    return [(name, *route) for name in NAMES for route in routes(create(name, nothing))]
