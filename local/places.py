"""Paths in the checkout. Everything that is generated on this machine is below `.local/`."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HOME = ROOT / ".local"
TOOLS = HOME / "tools"
"""The tools that the Makefile installs, each in an environment of its own."""
BUILDS = HOME / "build"
DEFAULT_CONFIG = ROOT / "functions" / "config.yaml"


def tool(name: str, command: str) -> Path:
    """The command of a tool that the Makefile installed."""
    return TOOLS / name / "bin" / command
