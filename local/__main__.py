"""`python -m local up|down|demo`: the commands behind the Makefile's targets of the same names."""

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

from local import values
from local.errors import StackError
from local.places import HOME, ROOT
from local.stack import Stack

_ENV = HOME / "env"
_WALKTHROUGH = ROOT / "examples" / "batch_walkthrough.py"


def up(config: Path | None, allowed_origins: str) -> None:
    """Start the stack, print how to reach it, and leave it running."""
    stack = Stack(HOME / "stack", config, allowed_origins=allowed_origins)
    running = stack.up()
    values.write_env(_ENV, running.environment())
    stack.leave()
    print(f"\nbase URL  {running.base_url}\nAPI key   {running.api_key}")
    print(f"\nUse it:   set -a; source {_ENV.relative_to(ROOT)}; set +a\nEnd it:   make down")


def down() -> None:
    """Stop the stack and delete its files."""
    Stack(HOME / "stack").down()
    _ENV.unlink(missing_ok=True)
    print("down")


def demo() -> None:
    """Start another stack with its own database, run the walkthrough against it, and stop it."""
    given = values.given()
    if given.pop("DATABASE_URL", None):
        print("DATABASE_URL is left alone: the demo has a Postgres of its own. `make up` would use it.", flush=True)
    with Stack(HOME / "demo", given=given) as running:
        print(f"\n$ python {_WALKTHROUGH.relative_to(ROOT)}", flush=True)
        done = subprocess.run(
            [sys.executable, _WALKTHROUGH], env={**os.environ, **running.environment()}, cwd=ROOT, check=False
        )
        if done.returncode:
            raise StackError(f"The walkthrough failed. Logs: {HOME / 'demo' / 'logs'}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m local", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    starting = commands.add_parser("up", help=up.__doc__)
    starting.add_argument("--config", type=Path, help="a configuration other than functions/config.yaml")
    starting.add_argument("--allowed-origins", default="", help="origins whose pages may call the API, or *")
    commands.add_parser("down", help=down.__doc__)
    commands.add_parser("demo", help=demo.__doc__)
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        match given.command:
            case "up":
                up(given.config, given.allowed_origins)
            case "down":
                down()
            case "demo":
                demo()
    except StackError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; what was started has been ended", file=sys.stderr)
        return 130
    return 0


def _interrupt(signal_number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
