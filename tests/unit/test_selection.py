"""A selection of a batch's lines is a text and a value, and each is the other's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifold.selection import Selection


@pytest.mark.parametrize(
    ("text", "selection"),
    [
        ("", Selection.all()),
        ("0-0", Selection.range(0, 1)),
        ("50000-99999", Selection.range(50_000, 50_000)),
        ("lines:shard_aZ0-9", Selection.lines("shard_aZ0-9")),
    ],
)
def test_each_kind_has_its_text(text: str, selection: Selection) -> None:
    assert Selection.parse(text) == selection
    assert str(selection) == text


@given(st.integers(min_value=0), st.integers(min_value=1))
def test_a_range_ends_with_its_last_request(first: int, requests: int) -> None:
    selection = Selection.range(first, requests)
    assert Selection.parse(str(selection)) == selection
    assert (selection.first, selection.requests, selection.object_id) == (first, requests, None)


@pytest.mark.parametrize(
    "text", ["all", "5", "5-4", "-1-4", "1-", " 1-2", "1-2\n", "\u0661-\u0662", "lines:", "lines:a/b", "lines:a\n"]
)
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"selection|a range has a request"):
        Selection.parse(text)


@pytest.mark.parametrize(("first", "requests"), [(-1, 1), (0, 0), (3, -1)])
def test_a_range_has_a_request(first: int, requests: int) -> None:
    with pytest.raises(ValueError, match="a range has a request"):
        Selection.range(first, requests)


@pytest.mark.parametrize("object_id", ["", "../x", "a b"])
def test_an_object_has_an_id(object_id: str) -> None:
    with pytest.raises(ValueError, match="is no selection"):
        Selection.lines(object_id)
