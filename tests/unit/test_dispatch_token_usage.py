"""The tokens that are read from a provider's usage object."""

from typing import Any

import pytest

from manifold.dispatch.token_usage import tokens_of
from manifold.prices import Tokens
from manifold.storable import MOST


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({}, Tokens(0, 0)),
        ({"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}, Tokens(9, 2)),
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 2,
                "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 3, "cache_write_1h_tokens": 1},
            },
            Tokens(9, 2, cached=4, written=3, written_1h=1),
        ),
        ({"prompt_tokens": "9", "completion_tokens": True, "prompt_tokens_details": None}, Tokens(0, 0)),
        ({"prompt_tokens": -500, "completion_tokens": -(2**70)}, Tokens(0, 0)),
        ({"prompt_tokens": 2**63, "completion_tokens": 1e300}, Tokens(MOST, MOST)),
        ({"prompt_tokens": 9.0, "completion_tokens": float("nan")}, Tokens(9, 0)),
        (
            {"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": -4, "cache_write_tokens": 1.5}},
            Tokens(9, 0, written=1),
        ),
    ],
)
def test_tokens_of_a_usage(usage: dict[str, Any], tokens: Tokens) -> None:
    assert tokens_of(usage) == tokens
