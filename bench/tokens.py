"""The estimate of a text's tokens, compared with OpenAI's tokenizer, in natural languages and in code.

The texts, and their tokens by tiktoken, are those of `tests/texts/tokens.json`. Where LiteLLM is installed, which has
tiktoken and its encodings, the tokens are counted anew, and it is an error if they are others.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from statistics import mean
from typing import Any

from bench import ROOT
from bench.measure import table
from bench.peer import ENVIRONMENT
from bench.tiktoken_counts import ENCODINGS
from local.places import tool
from manifold.jsonl.token_estimate import text_tokens

TEXTS = ROOT / "tests" / "texts" / "tokens.json"
SCRIPT = ROOT / "bench" / "tiktoken_counts.py"


def counted(texts: Sequence[str]) -> Mapping[str, Sequence[int]] | None:
    """By encoding, the tokens of each text, as tiktoken counts them; `None` where LiteLLM is not installed."""
    python = tool("litellm", "python")
    if not python.exists():
        return None
    command = [str(python), str(SCRIPT)]
    done = subprocess.run(
        command, env=ENVIRONMENT, input=json.dumps(texts), stdout=subprocess.PIPE, text=True, check=True
    )
    counts: Mapping[str, Sequence[int]] = json.loads(done.stdout)
    return counts


def rows(texts: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    """For each text: its tokens, and how far the estimate and the usual rule of thumb are off."""
    for text in texts:
        tokens, older = (text[encoding] for encoding in ENCODINGS)
        estimate, rule = text_tokens(text["text"]), len(text["text"].encode()) / 4
        yield text["name"], str(tokens), _error(estimate, tokens), _error(rule, tokens), _error(estimate, older)


def _error(estimate: float, tokens: int) -> str:
    return f"{100 * (estimate / tokens - 1):+.0f} %"


def main() -> int:
    texts = json.loads(TEXTS.read_text())["texts"]
    print(table(("text", ENCODINGS[0], "estimate", "bytes / 4", f"estimate to {ENCODINGS[1]}"), rows(texts)))
    off = [abs(text_tokens(text["text"]) / text[ENCODINGS[0]] - 1) for text in texts]
    print(f"\nThe estimate is off by {100 * mean(off):.0f} % on the average, and by {100 * max(off):.0f} % at most.")
    counts = counted([text["text"] for text in texts])
    if counts is None:
        print("LiteLLM is not installed (make bench installs it), so the tokens are not counted anew.")
        return 0
    wrong = [
        text["name"]
        for number, text in enumerate(texts)
        if any(counts[encoding][number] != text[encoding] for encoding in ENCODINGS)
    ]
    if wrong:
        print(f"tiktoken counts other tokens for: {', '.join(wrong)}", file=sys.stderr)
    else:
        print("tiktoken counts the same tokens.")
    return len(wrong)


if __name__ == "__main__":
    raise SystemExit(main())
