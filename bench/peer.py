"""LiteLLM, the peer that Manifold is compared with: its function on the same file, in a process and environment apart.

`make bench` installs what requirements/litellm.txt locks, with hashes, into `.local/tools/litellm`; nothing else
imports it. The releases 1.82.7, 1.82.8 and 1.107.0 are compromised; the first two steal credentials (MAL-2026-2144 at
osv.dev), 1.82.8 by a `.pth` file that runs in every Python of its environment. 1.106.2 is the newest release before
1.107.0: it has the rewrite that streams, LiteLLM's leanest, and no `.pth` file. The lock's hashes let nothing else in
under its name.
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import ROOT
from bench.measure import Measure
from local.places import tool

SCRIPT = ROOT / "bench" / "litellm_rewrite.py"
ENVIRONMENT = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "PATH": "/usr/bin:/bin"}
"""Without the first, importing LiteLLM asks a server for prices."""


@contextmanager
def litellm_rewrite(file: Path, model: str) -> Iterator[Measure | None]:
    """The measure of LiteLLM's rewrite of the file; `None` where LiteLLM is not installed."""
    python = tool("litellm", "python")
    if not python.exists():
        yield None
        return
    command: list[str | Path] = [python, SCRIPT, file, model]
    with subprocess.Popen(command, env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        requests, results = child.stdin, child.stdout
        assert requests is not None
        assert results is not None

        def once() -> float:
            requests.write("\n")
            requests.flush()
            return float(results.readline())

        yield once
        requests.close()
