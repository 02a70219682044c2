"""The conditions of a download, as RFC 9110 has them."""

import pytest

from files import conditions

ETAG = '"file-1"'


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (ETAG, 304),
        (f"W/{ETAG}", 304),
        (f'"a", W/"b,c" ,{ETAG}', 304),
        (" * ", 304),
        ('"file-2"', None),
        ('"*"', None),
        ('"a,file-1"', None),
        ("file-1", None),
        ("", None),
    ],
)
def test_a_file_that_is_known_is_not_sent_again(written: str, expected: int | None) -> None:
    assert conditions.unmet({"if-none-match": written}, ETAG) == expected


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (ETAG, None),
        (f'"a",{ETAG}', None),
        ("*", None),
        (f"W/{ETAG}", 412),
        ('"file-2"', 412),
        ("file-1", 412),
        ("", 412),
    ],
)
def test_another_file_than_the_required_one_is_not_sent(written: str, expected: int | None) -> None:
    assert conditions.unmet({"if-match": written}, ETAG) == expected


def test_the_required_tag_is_compared_first() -> None:
    assert conditions.unmet({"if-match": '"file-2"', "if-none-match": ETAG}, ETAG) == 412
    assert conditions.unmet({"if-match": ETAG, "if-none-match": ETAG}, ETAG) == 304
    assert conditions.unmet({}, ETAG) is None
