"""Which groups are tried after one that failed, or whose provider withheld its answer."""

import pytest

from manifold.config import RouterSettings
from manifold.dispatch.fallbacks import fallbacks_for, is_withheld
from manifold.errors import CallFailed

FILTERED = {"finish_reason": "content_filter"}


@pytest.mark.parametrize(
    ("answer", "withheld"),
    [
        ({"choices": [FILTERED]}, True),
        ({"choices": [FILTERED, {"finish_reason": "stop"}]}, False),
        ({"choices": []}, False),
        ({"choices": ["of no shape"]}, False),
        ({"choices": "of no shape"}, False),
        ({"data": []}, False),
    ],
)
def test_an_answer_with_nothing_in_it_but_that_it_is_withheld(answer: dict[str, object], withheld: bool) -> None:
    assert is_withheld(answer) is withheld


@pytest.mark.parametrize(
    ("fallbacks", "default", "groups"),
    [
        ({"a": ("b",)}, ("c",), ["b"]),
        ({"b": ("a",)}, ("c",), ["c"]),
        ({"*": ("b", "a")}, ("c",), ["b"]),
        ({"a": (), "*": ("b",)}, ("c",), []),
    ],
)
def test_the_fallbacks_of_a_group(
    fallbacks: dict[str, tuple[str, ...]], default: tuple[str, ...], groups: list[str]
) -> None:
    settings = RouterSettings(fallbacks=fallbacks, default_fallbacks=default)
    assert fallbacks_for(settings, "a", CallFailed("down", status=502)) == groups
