"""LiteLLM's own rewrite of a batch file, timed. `bench.peer` runs it with the Python that has LiteLLM.

    python litellm_rewrite.py FILE MODEL

For each line on its standard input it rewrites the file once, and prints the processor seconds that this took.
"""

import io
import sys
from pathlib import Path
from time import process_time

from litellm.router_utils.batch_utils import replace_model_in_jsonl  # type: ignore[import-not-found,unused-ignore]


def main() -> None:
    content, model = Path(sys.argv[1]).read_bytes(), sys.argv[2]
    for _ in sys.stdin:
        source = io.BytesIO(content)
        began = process_time()
        replace_model_in_jsonl(("input.jsonl", source, "application/jsonl"), model)
        print(process_time() - began, flush=True)


if __name__ == "__main__":
    main()
