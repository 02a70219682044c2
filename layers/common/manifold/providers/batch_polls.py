"""Polls of many jobs of one deployment: by its listing as far as that is faster, else one by one."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping, Sequence

from manifold.errors import ProviderError, ProviderRefused
from manifold.providers import JobStatus

IDLE_PAGES = 10
"""The pages of a listing that a poll may read in vain. A page takes as long as `CONCURRENT` retrievals, so each
`CONCURRENT` jobs that were found earn one page more."""
LISTING_SECONDS = 20.0
"""Time limit of a poll's listing: of the 25 s that a deployment has, some are left to retrieve jobs one by one."""
RETRIEVED_INSTEAD = 100
"""The most jobs, those due longest, that a poll retrieves one by one where its listing failed or took too long."""
FEW = 4
"""Up to so many jobs are retrieved one by one; more, by listing."""
CONCURRENT = 8
MAX_REFUSALS = 16
"""Refused retrievals, while none succeeds, after which the other jobs are left for a later poll."""

Listing = Callable[[], AsyncIterator[Mapping[str, JobStatus | None]]]
"""Opens the provider's listing, the newest jobs first: each page's statuses by their refs, `None` for unknown ones."""
Retrieve = Callable[[str], Awaitable[JobStatus | None]]
"""Reads one job; `None` if its status is unknown. A job that the provider does not know is `failed` and `lost`."""


async def poll(
    refs: Sequence[str],
    statuses: MutableMapping[str, JobStatus],
    listing: Listing,
    retrieve: Retrieve,
    *,
    few: int = FEW,
) -> None:
    """`BatchProvider.poll`, by the provider's listing and its retrieval of one job. `few`: see `FEW`."""
    most = len(refs)
    if len(refs) > few:
        try:
            async with asyncio.timeout(LISTING_SECONDS):
                await _poll_listed(refs, statuses, listing)
        except ProviderRefused as refusal:
            if any(ref in statuses for ref in refs):
                return
            if not refusal.lasting:
                raise
        except (ProviderError, TimeoutError):  # a listing may be broken, or too slow, for as long as a job runs
            most = RETRIEVED_INSTEAD
    await _poll_each([ref for ref in refs if ref not in statuses][:most], statuses, retrieve)


async def _poll_listed(refs: Sequence[str], statuses: MutableMapping[str, JobStatus], listing: Listing) -> None:
    """Put the jobs that the newest pages list into `statuses`, as long as that is faster than to retrieve each."""
    missing, pages, found = set(refs), 0, 0
    async for page in listing():
        known = {ref: status for ref, status in page.items() if status and ref in missing}
        statuses.update(known)
        missing -= known.keys()
        pages, found = pages + 1, found + len(known)
        if not missing or pages >= IDLE_PAGES + found // CONCURRENT:
            return


async def _poll_each(refs: Sequence[str], statuses: MutableMapping[str, JobStatus], retrieve: Retrieve) -> None:
    """One GET per job. Raises only if no status is known: statuses that were read count more than the errors.

    After `MAX_REFUSALS`, while no status is known, no more are sent.
    """
    semaphore, failures = asyncio.Semaphore(CONCURRENT), list[ProviderError]()

    async def one(ref: str) -> None:
        async with semaphore:
            if statuses or not _is_refused_throughout(failures):
                try:
                    status = await retrieve(ref)
                except ProviderError as error:
                    failures.append(error)
                else:
                    statuses.update({ref: status} if status else {})

    for answer in await asyncio.gather(*map(one, refs), return_exceptions=True):
        if answer is not None:
            raise answer
    if failures and not statuses and (len(failures) == len(refs) or _is_refused_throughout(failures)):
        raise failures[0]


def _is_refused_throughout(failures: Sequence[ProviderError]) -> bool:
    """Whether so many retrievals were refused that it must be the account, and not the jobs."""
    return sum(isinstance(failure, ProviderRefused) for failure in failures) >= MAX_REFUSALS
