"""One range of a file, as RFC 9110 has it."""

import pytest

from files import ranges
from manifold.errors import RangeNotSatisfiable

ETAG = '"file-1"'


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("bytes=0-9", range(10)),
        ("bytes=10-19", range(10, 20)),
        ("bytes=90-", range(90, 100)),
        ("bytes=-10", range(90, 100)),
        ("bytes=-1000", range(100)),
        ("bytes=0-", range(100)),
        ("bytes=99-18446744073709551615", range(99, 100)),
        ("BYTES = 5 - 6", range(5, 7)),
    ],
)
def test_a_range_is_what_it_says(written: str, expected: range) -> None:
    assert ranges.requested({"range": written}, 100, ETAG) == expected


@pytest.mark.parametrize(
    "written",
    ["", "bytes=", "bytes=-", "bytes=a-b", "bytes=5-2", "bytes=0-1,5-6", "lines=0-1", "bytes=٣-٤", "bytes=--5"],
)
def test_what_is_no_single_range_asks_for_the_whole(written: str) -> None:
    assert ranges.requested({"range": written}, 100, ETAG) is None


@pytest.mark.parametrize("written", ["bytes=100-", "bytes=100-200", "bytes=-0", f"bytes={'9' * 900}-"])
def test_a_range_behind_the_end_is_refused(written: str) -> None:
    with pytest.raises(RangeNotSatisfiable):
        ranges.requested({"range": written}, 100, ETAG)


@pytest.mark.parametrize(
    ("if_range", "expected"),
    [(ETAG, range(2)), ('"file-2"', None), (f"W/{ETAG}", None), ("Tue, 24 Nov 2026 09:00:00 GMT", None)],
)
def test_a_range_of_another_version_asks_for_the_whole(if_range: str, expected: range | None) -> None:
    assert ranges.requested({"range": "bytes=0-1", "if-range": if_range}, 100, ETAG) == expected
