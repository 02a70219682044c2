"""Any text of a provider can be stored."""

from typing import Any

import pytest

from manifold import storable


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("plain: ünï 😀", "plain: ünï 😀"),
        ("a\0b", "a�b"),
        ("cut in two \ud83d", "cut in two �"),
        ("x" * 5000, "x" * storable.LONGEST),
    ],
)
def test_texts(value: str, kept: str) -> None:
    assert storable.text(value) == kept


@pytest.mark.parametrize(
    ("value", "kept"),
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
def test_counts(value: object, kept: int) -> None:
    assert storable.count(value) == kept


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ({"a\0": ["\udc00", 1, None, True, 0.5]}, {"a�": ["�", 1, None, True, 0.5]}),
        ({"line": float("nan")}, {"line": None}),
    ],
)
def test_values(value: object, kept: object) -> None:
    assert storable.value(value) == kept


def test_a_value_that_is_nested_too_deep_ends_in_null() -> None:
    value: Any = "core"
    for _ in range(5000):
        value = [value]

    depth, kept = 0, storable.value(value)
    while isinstance(kept, list):
        depth, kept = depth + 1, kept[0]

    assert (depth, kept) == (storable.DEEPEST, None)
