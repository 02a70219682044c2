"""The time to import each function, compared with the third-party modules that it needs.

    python -m bench.imports [--pairs N] [function …]

Each is timed in a fresh interpreter, in turn with what it needs, in processor time: on a shared machine the clock also
measures other programs. `NEEDS` lists what each needs; the report names each package that a function loads beyond that.
`pydantic.v1` is hidden from both, as the layer leaves it out, and pydantic looks for no plugins, as in the template.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from statistics import median
from typing import Any

from bench import PATHS, ROOT
from bench.measure import Comparison, machine, table

MODELS = ("pydantic.main", "pydantic.fields", "pydantic.functional_validators", "pydantic.types")
"""What the first model and its validators load of pydantic; `pydantic` alone loads nothing."""
EVERY = ("aws_lambda_powertools.metrics", "psycopg", "psycopg.types.json", *MODELS, "yaml", "orjson")
"""Logs and metrics, the store, the configuration."""
WEB = (*EVERY, "fastapi", "mangum")
NEEDS = {
    "admin.app": WEB,
    "admin.migrations": (*EVERY, "boto3"),
    "batches.app": (*WEB, "boto3"),
    "batches.worker": (*EVERY, "boto3"),
    "batches.poller": (*EVERY, "boto3"),
    "batches.executor": (*EVERY, "boto3"),
    "completions.app": WEB,
    "files.app": (*WEB, "boto3"),
    "files.transfers.worker": (*EVERY, "boto3"),
    "webhooks.app": (*WEB, "boto3"),
    "webhooks.worker": (*EVERY, "boto3", "httpx", "standardwebhooks"),
}
"""Each function, and the modules that it needs at its start. httpx comes with the first call of a provider."""
GOAL = 1.25
HEAVY = ("boto3", "fastapi", "httpx", "opentelemetry", "psycopg", "pydantic", "aws_lambda_powertools")

_TIMED = """
import sys, time
sys.modules["pydantic.v1"] = None
began = time.process_time()
import {modules}
print(time.process_time() - began)
"""
_PACKAGES = """
import json, sys
sys.modules["pydantic.v1"] = None
import {modules}
files = {{name: getattr(module, "__file__", None) or "" for name, module in sys.modules.items()}}
print(json.dumps(sorted({{name.partition(".")[0] for name, file in files.items() if "site-packages" in file}})))
"""


def compare(function: str, pairs: int) -> Comparison:
    """The import of a function and that of what it needs, timed in turn."""
    times = [(_seconds(function), _seconds(*NEEDS[function])) for _ in range(pairs)]
    return Comparison(function, [one for one, _ in times], [bare for _, bare in times])


def packages(*modules: str) -> set[str]:
    """The third-party packages that a fresh interpreter has loaded after importing these modules."""
    return set(_fresh(_PACKAGES, modules))


def _seconds(*modules: str) -> float:
    took: float = _fresh(_TIMED, modules)
    return took


def _fresh(program: str, modules: Sequence[str]) -> Any:
    of_layer = {"PYTHONDONTWRITEBYTECODE": "", "PYDANTIC_DISABLE_PLUGINS": "true"}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(PATHS), **of_layer}
    command = [sys.executable, "-c", program.format(modules=", ".join(modules))]
    done = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
    return json.loads(done.stdout)


def _row(function: str, pairs: int) -> Sequence[str]:
    print(f"importing {function} …", file=sys.stderr, flush=True)
    loaded = packages(function)
    beyond = loaded - packages(*NEEDS[function])  # this first import also writes the bytecode that all others read
    timed = compare(function, pairs)
    return (
        function,
        f"{1000 * median(timed.seconds):.0f}",
        f"{1000 * median(timed.baseline):.0f}",
        f"{timed.ratio:.2f}",
        " ".join(sorted(beyond)) or "-",
        " ".join(name for name in HEAVY if name in loaded),
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.imports", description=__doc__.partition("\n")[0])
    parser.add_argument("functions", nargs="*", default=list(NEEDS), help=f"some of: {', '.join(NEEDS)}")
    parser.add_argument("--pairs", type=int, default=9)
    args = parser.parse_args()
    print(f"Processor time of each import in a fresh interpreter, in turn with its bare needs: medians of {args.pairs}")
    print(f"pairs. Goal: a ratio of {GOAL} at most.\n{machine()}.\n")
    header = ("function", "ms", "bare ms", "ratio", "loaded beyond its needs", "heavy packages loaded")
    print(table(header, [_row(function, args.pairs) for function in args.functions]))
    print("\nThe bare needs of each:")
    for function in args.functions:
        print(f"  {function}: {', '.join(NEEDS[function])}")


if __name__ == "__main__":
    main()
