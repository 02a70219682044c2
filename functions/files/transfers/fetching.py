"""A job's result files, copied from its provider to S3 and read on the way."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from functools import partial

from files.transfers.retry_policy import Fault, lasting
from files.transfers.tally import Answered, Tally
from manifold.config import Deployment
from manifold.deployments import Deployments
from manifold.errors import ManifoldError, ProviderError
from manifold.providers import Endpoint, Provider
from manifold.storage import Storage
from manifold.store.files import storage_key
from manifold.store.jobs import JobRow


@dataclass(slots=True)
class Found:
    """What there was: of the files "output" and "error", those that the provider names."""

    answered: Answered = field(default_factory=Answered)
    files: dict[str, Tally] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    """Of the files that could not be had. After one that may pass, no other file is asked for."""

    @property
    def lines(self) -> int:
        return sum(tally.lines for tally in self.files.values())

    def opened(self, name: str, group: str) -> Tally:
        self.files[name] = Tally(group, self.answered)
        return self.files[name]


class Worse(Exception):
    """There is nothing in this file, or less than in the one that was kept before."""


class Fetching:
    def __init__(self, storage: Storage, deployments: Deployments) -> None:
        self._storage = storage
        self._deployments = deployments

    async def fetch(self, job: JobRow, deployment: Deployment) -> Found:
        """Copy each file, over what an earlier attempt left of it, unless that has more results. None without any is
        kept."""
        found = Found()
        for name, ref, file_id in _named(job):
            tally = found.opened(name, deployment.group)
            least = max(job.kept.get(name, 0), 1)
            try:
                copy = partial(self._copy, ref, storage_key(file_id), tally, least)
                await self._deployments.call(deployment, copy, seconds=None)
            except (ProviderError, ManifoldError) as fault:
                found.faults.append(fault)
                if not lasting(fault):
                    break
        return found

    async def kept(self, job: JobRow) -> Found:
        """What is in S3 by now, with the group's name in it."""
        found = Found()
        for name, _, file_id in _named(job):
            key = storage_key(file_id)
            if await self._storage.size(key):
                async for _ in found.opened(name, group="").through(self._storage.read(key)):
                    pass
        return found

    async def _copy(self, ref: str, key: str, tally: Tally, least: int, provider: Provider, at: Endpoint) -> None:
        with contextlib.suppress(Worse):
            await self._storage.write(key, _enough(tally, tally.through(provider.results(at, ref)), least))


async def _enough(tally: Tally, lines: AsyncIterator[bytes], least: int) -> AsyncIterator[bytes]:
    async for piece in lines:
        yield piece
    if tally.lines < least:
        raise Worse


def _named(job: JobRow) -> Iterator[tuple[str, str, str]]:
    """Each file's kind, the provider's name of it and ours."""
    for name, ref, file_id in (
        ("output", job.output_ref, job.output_file_id),
        ("error", job.error_ref, job.error_file_id),
    ):
        if ref is not None and file_id is not None:
            yield name, ref, file_id
