"""Listings that a provider gives page by page, and that end, whatever it answers."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

from manifold.errors import ProviderUnclear
from manifold.providers.openai.batch_object import id_of, listed

MAX_PAGES = 1000
"""Pages after which a listing is given up as endless."""

Cursor = Mapping[str, str]
"""The parameters that ask for a page; none for the first."""
Page = Callable[[Cursor], Awaitable[Mapping[str, Any]]]
"""Requests a page, with these parameters beside its own."""
Following = Callable[[Mapping[str, Any]], Cursor | None]
"""The cursor of the page that follows this one; `None` after the last."""


async def pages(
    page: Page, member: str, following: Following, *, optional: bool = False
) -> AsyncIterator[Sequence[Mapping[str, Any]]]:
    """The entries in `member` of each page, which may be left out where it is `optional`.

    `ProviderUnclear` if the listing does not end, or is none.
    """
    cursor: Cursor = {}
    for _ in range(MAX_PAGES):
        answer = await page(cursor)
        yield listed({member: None, **answer} if optional else answer, member)
        further = following(answer)
        if further is None:
            return
        if further == cursor:
            break
        cursor = further
    raise ProviderUnclear("a listing that does not end")


def by_token(parameter: str, member: str) -> Following:
    """Each page has a token for the next one."""
    return lambda answer: {parameter: str(answer[member])} if answer.get(member) else None


def by_last_id(parameter: str) -> Following:
    """A page says in `has_more` whether another one follows, which begins after the last id in `data`."""

    def following(answer: Mapping[str, Any]) -> Cursor | None:
        entries = listed(answer, "data")
        return {parameter: id_of(entries[-1])} if entries and answer.get("has_more") else None

    return following
