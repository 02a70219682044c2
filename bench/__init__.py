"""The benchmarks: the time of each handler, the import of each function. docs/performance.md says how they measure.

`make bench` runs all; `python -m bench.handlers` and `python -m bench.imports` run one.
"""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
CODE = Path(os.environ.get("BENCH_CODE") or ROOT)
"""The checkout whose layer and functions are measured: this one, unless `bench.batches --baseline` names another."""
PATHS = [str(CODE / "layers" / "common"), str(CODE / "functions"), str(ROOT)]
"""Lambda's path, which is the layer and the functions; and this checkout, for modules that are not deployed."""

sys.path[:0] = [path for path in PATHS if path not in sys.path]
