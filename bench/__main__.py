"""`python -m bench`: every benchmark, each in a process of its own, so that none fills the caches of another."""

import argparse
import subprocess
import sys

from bench import ROOT

BENCHES = (
    "handlers",
    "round_trips",
    "imports",
    "lines",
    "batch_lines",
    "tokens",
    "large_file",
    "large_batch",
    "completions",
    "first_request",
    "streams",
    "batches",
    "poller",
    "own_execution",
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("benches", nargs="*", default=BENCHES, help=f"some of: {', '.join(BENCHES)}")
    args = parser.parse_args()
    failed = [name for name in args.benches if _run(name)]
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return len(failed)


def _run(name: str) -> int:
    print(f"\n== {name} ==", flush=True)
    return subprocess.run([sys.executable, "-m", f"bench.{name}"], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
