"""`python -m local.provider`: the simulated provider, until it is stopped."""

import argparse

from local.provider.pace import Pace
from local.provider.server import run


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m local.provider", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--speed", type=float, default=1.0, help="how many times faster a batch moves (about 2.5 s)")
    given = parser.parse_args()
    run(given.host, given.port, Pace().faster(given.speed))


if __name__ == "__main__":
    main()
