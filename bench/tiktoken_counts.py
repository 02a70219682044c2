"""OpenAI's tokenizer, which `bench.tokens` runs with the Python that has LiteLLM: its package holds the encodings.

Reads a JSON array of texts from standard input, and prints for each encoding the tokens of each text.
"""

import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path

ENCODINGS = ("o200k_base", "cl100k_base")


def main() -> None:
    litellm = find_spec("litellm")
    assert litellm is not None
    assert litellm.origin is not None
    os.environ["TIKTOKEN_CACHE_DIR"] = str(Path(litellm.origin).parent / "litellm_core_utils" / "tokenizers")
    import tiktoken  # type: ignore[import-not-found,unused-ignore]

    texts = json.load(sys.stdin)
    encodings = {name: tiktoken.get_encoding(name) for name in ENCODINGS}
    print(json.dumps({name: [len(one.encode(text)) for text in texts] for name, one in encodings.items()}))


if __name__ == "__main__":
    main()
