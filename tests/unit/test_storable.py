"""Any text of a provider can be stored."""

from typing import Any

import pytest

from manifold import storable


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("plain: ünï 😀", "plain: ünï 😀"),
        ("a\0b", "a�b"),
        ("cut in two \ud83d", "cut in two �"),
        ("x" * 5000, "x" * storable.LONGEST),
    ],
)
def test_texts(said: str, kept: str) -> None:
    assert storable.text(said) == kept


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (7, 7),
        (7.0, 7),
        (-1, 0),
        (2**63, storable.MOST),
        (10**400, storable.MOST),
        (-(10**400), 0),
        (float("inf"), storable.MOST),
        (float("nan"), 0),
        (True, 0),
        ("7", 0),
        (None, 0),
    ],
)
def test_counts(said: object, kept: int) -> None:
    assert storable.count(said) == kept


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ({"a\0": ["\udc00", 1, None, True, 0.5]}, {"a�": ["�", 1, None, True, 0.5]}),
        ({"line": float("nan")}, {"line": None}),
    ],
)
def test_values(said: object, kept: object) -> None:
    assert storable.value(said) == kept


def test_a_value_that_is_nested_too_deep_ends_in_null() -> None:
    said: Any = "core"
    for _ in range(5000):
        said = [said]

    depth, kept = 0, storable.value(said)
    while isinstance(kept, list):
        depth, kept = depth + 1, kept[0]

    assert (depth, kept) == (storable.DEEPEST, None)
