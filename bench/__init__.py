"""The benchmarks: the time of each handler, the import of each function. docs/performance.md says how they measure.

`make bench` runs all; `python -m bench.handlers` and `python -m bench.imports` run one.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PATHS = [str(ROOT / room) for room in ("layers/common", "functions", ".")]
"""Lambda's path, which is the layer and the functions; and the checkout, for modules that are not deployed."""

sys.path[:0] = [path for path in PATHS if path not in sys.path]
