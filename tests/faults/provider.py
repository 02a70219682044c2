"""The providers of a run: `BatchProvider` in memory, as strict as the real ones, with their faults.

An account is one deployment's. `docs` of real providers: a create may be lost, late or refused; a job is listed after a
while; a quota is kept, at the create or minutes later; inputs expire; results are what `provider_jobs` says.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping, Sequence
from random import Random

from manifold.errors import InputLost, ProviderError, ProviderRefused, ProviderUnclear
from manifold.providers import Endpoint, Input, Job, JobStatus, Listed, Prepared
from manifold.providers.batch_lines import LineTranslator
from tests.faults.accounts import Account, StoredInput
from tests.faults.clients import Requests
from tests.faults.clock import Clock
from tests.faults.environments import current
from tests.faults.faults import Faults
from tests.faults.provider_jobs import COURSES, DEFECTS, LASTING_DEFECTS, LOST, Course, Line, ProviderJob, lines_of
from tests.faults.scheduler import Scheduler

LISTING_LAG = 20.0
"""The longest time after a create in which the job is not listed."""
LATEST = 30.0
"""The longest time that a create, or an answer, is on its way."""


ShardOf = Callable[[str], tuple[str, str] | None]
"""The shard of a job of ours, and the state of the job, as the rows say."""


class Providers:
    """All accounts, by their base URL; the `BatchProvider` of every deployment."""

    bills_lines = True
    """Whether a job tells the requests that it bills, and not only their tokens."""
    model: str | None = None
    """The model of every deployment; `None`: what `config.yaml` says."""
    requests = Requests()
    """What the clients send."""
    withholds: frozenset[str] = frozenset()
    """The ends of a job after which its answers may not be handed out: then nobody can count them."""
    fewest = 1
    """The fewest requests of a batch."""
    drop_params = False
    """Whether the gateway leaves out the parameters that it cannot translate."""
    runs_batches = True
    """Whether they have batches at all, or completions alone."""

    def __init__(self, clock: Clock, scheduler: Scheduler, faults: Faults, shard_of: ShardOf) -> None:
        self.accounts: dict[str, Account] = {}
        self.wrong: list[str] = []
        """What the gateway should not have asked for."""
        self._shard_of = shard_of
        self._under_way: list[tuple[float, Account, Job]] = []
        self.clock = clock
        self.odd = faults.random.choice((0.0, 0.1, 0.5))
        """How many jobs go otherwise than well."""
        self._scheduler, self._faults = scheduler, faults
        self._count = 0

    @property
    def _random(self) -> Random:
        return self._scheduler.random

    def jobs(self) -> list[ProviderJob]:
        """Every job at any account."""
        return [job for account in self.accounts.values() for job in account.jobs.values()]

    def harmed(self) -> Iterator[str]:
        """Jobs of somebody else that were cancelled or deleted: none, as there are only jobs of ours."""
        return iter(())

    sends_lines = False

    def translator(self, endpoint: Endpoint) -> LineTranslator | None:
        return None

    def kept_inputs(self) -> Iterator[tuple[str, str, str]]:
        """The account, reference and name of each input that no provider will drop by itself."""
        for account in self.accounts.values():
            account.expire(self.clock.now())
            for ref, stored in account.inputs.items():
                if stored.expires_at is None:
                    yield account.name, ref, stored.name

    async def prepare(self, endpoint: Endpoint, data: Input) -> Prepared:
        account, fault = await self._begin("prepare", endpoint, data.name)
        content = b"".join([chunk async for chunk in data.lines()])
        if len(content) != data.bytes:
            raise ProviderRefused("the form is not as long as it says", status=400, lasting=True)
        await self._scheduler.point(f"the input {data.name} arrives at {account.name}")
        expires_at = None if account.input_seconds is None else self.clock.now() + account.input_seconds
        stored = StoredInput(self._new_ref("in"), data.name, content, self.clock.now(), expires_at)
        account.inputs[stored.ref] = stored
        await self._answer(fault)
        return Prepared(stored.ref, None if expires_at is None else int(expires_at))

    async def submit(self, endpoint: Endpoint, job: Job) -> str:
        account, fault = await self._begin("submit", endpoint, job.id)
        if fault == "input lost":
            account.inputs.pop(job.input_ref or "", None)
        if fault in ("unclear after", "hangs") and self._random.random() < 0.5:  # it happens once the caller is gone
            self._under_way.append((self.clock.now() + self._seconds_left(), account, job))
            await self._answer("unclear after")
        created = self._create(account, job, self.clock.now())
        await self._answer(fault)
        return created.ref

    async def find(self, endpoint: Endpoint, job: Job) -> str | None:
        account, fault = await self._begin("find", endpoint, job.id)
        now = self.clock.now()
        found = [one for one in account.jobs.values() if one.listed_at <= now and one.ref not in job.others]
        await self._answer(fault)
        named = [one.ref for one in found if one.our_id == job.id]
        unnamed = [one.ref for one in found if one.our_id is None and one.input_ref == job.input_ref]
        return next(iter([*named, *unnamed]), None)

    async def poll(self, endpoint: Endpoint, refs: Sequence[str], statuses: MutableMapping[str, JobStatus]) -> None:
        account, fault = await self._begin("poll", endpoint, ", ".join(refs))
        for number, ref in enumerate(refs):
            if fault == "unclear after" and number:
                break
            job = account.jobs.get(ref)
            if job is None:
                statuses[ref] = LOST
                continue
            job.advance(self.clock.now(), self._random)
            statuses[ref] = job.status(self.clock.now())
        await self._answer(fault)

    async def cancel(self, endpoint: Endpoint, ref: str) -> None:
        account, fault = await self._begin("cancel", endpoint, ref)
        job = account.jobs.get(ref)
        if job is None:
            raise ProviderRefused("no such job", status=404, lasting=True)
        job.advance(self.clock.now(), self._random)
        job.cancel(self.clock.now(), self._random.choice((0.0, 3.0, 60.0)))
        await self._answer(fault)

    async def results(self, endpoint: Endpoint, ref: str) -> AsyncIterator[bytes]:
        account, fault = await self._begin("results", endpoint, ref)
        job = next((one for one in account.jobs.values() if ref in one.outputs), None)
        if job is None:
            raise ProviderRefused("no such file", status=404, lasting=True)
        content = job.content(ref, self.clock.now())
        half = len(content) // 2
        for chunk in (content[:half], content[half:]):
            yield chunk
            await self._scheduler.point(f"more of {ref}")
            if fault == "torn":
                raise ProviderUnclear("the download broke off")
        await self._answer(fault)

    async def inputs(self, endpoint: Endpoint) -> AsyncIterator[Listed]:
        account, _ = await self._begin("inputs", endpoint, "all")
        for stored in list(account.inputs.values()):
            yield Listed(stored.ref, stored.name, int(stored.created_at))

    async def discard(self, endpoint: Endpoint, ref: str) -> None:
        account, fault = await self._begin("discard", endpoint, ref, lasting=ref)
        account.inputs.pop(ref, None)
        await self._answer(fault)

    async def _begin(
        self, operation: str, endpoint: Endpoint, what: str, lasting: str | None = None
    ) -> tuple[Account, str | None]:
        """Wait for the turn, and raise a fault that comes before the effect. Returns the account, and another fault."""
        account = self.accounts[endpoint.base_url]
        await self._scheduler.point(f"{operation} {what} at {account.name}")
        fault = self._faults.noted(operation, self._scheduler.trace, f"{what} at {account.name}")
        match fault:
            case "refused":
                after = self._random.choice((None, 1.0, 30.0, 100_000.0))
                raise ProviderRefused("busy", status=429, code="rate_limit_exceeded", retry_after=after)
            case "quota":
                raise ProviderRefused("no room", status=429, code="token_limit_exceeded")
            case "lasting":
                if lasting is not None:
                    account.undeletable.add(lasting)
                raise ProviderRefused("refused", status=self._random.choice((400, 401, 403)), lasting=True)
            case "unclear before":
                raise ProviderUnclear("an error", status=self._random.choice((None, 500, 503)))
            case "garbage":
                raise ValueError("not what it should be")
            case "hangs" if self._random.random() < 0.5:
                await asyncio.sleep(self._random.choice((3.0, 30.0, 300.0)))
        return account, fault

    async def _answer(self, fault: str | None) -> None:
        """The call had its effect; the caller may not hear of it."""
        if fault == "hangs":
            await asyncio.sleep(self._random.choice((3.0, 30.0, 300.0)))
        if fault in ("unclear after", "hangs"):
            raise ProviderUnclear("the connection broke")

    def _create(self, account: Account, job: Job, now: float) -> ProviderJob:
        random = self._random
        account.expire(now)
        stored = account.inputs.get(job.input_ref or "")
        if stored is None:
            raise InputLost("no such file", status=404, lasting=True)
        lines = lines_of(stored.content)
        if any(line.model != account.model for line in lines):
            raise ProviderRefused("a wrong model", status=400, lasting=True)
        for one in account.jobs.values():
            one.advance(now, random)
        over = account.quota is not None and account.enqueued() + len(lines) > account.quota
        account.over += over
        self._check(account, job, lines)
        if over and random.random() < 0.5:
            raise ProviderRefused("no room", status=429, code="token_limit_exceeded")
        created = self._drawn(job, stored.ref, lines, now)
        if over:
            created.course, created.ends_at = ("fails for its quota", now + random.choice((5.0, 100.0)))
        account.jobs[created.ref] = created
        self._scheduler.trace.add(
            account.name, f"{created.ref} for {job.id} {created.course}: {sorted(created.defects)}"
        )
        return created

    def _check(self, account: Account, job: Job, lines: list[Line]) -> None:
        """Note what no gateway may do: run the same lines twice at once, or send more than is taken at most."""
        ours = self._shard_of(job.id)
        if ours is None:
            self.wrong.append(f"{job.id} was sent to {account.name}, and has no row")
            return
        for other in self.jobs():
            theirs = self._shard_of(other.our_id) if other.open and other.our_id not in (None, job.id) else None
            if theirs and theirs[0] == ours[0] and "abandoned" not in (ours[1], theirs[1]):
                self.wrong.append(f"{job.id} was sent to {account.name} while {other.our_id} runs the same lines")
        if len(lines) < account.limits.fewest_requests:
            self.wrong.append(f"{job.id} with only {len(lines)} lines was sent to {account.name}")
        most = account.limits.batch_requests
        if most is not None and len(lines) > most:
            self.wrong.append(f"{job.id} with {len(lines)} lines was sent to {account.name}, which takes {most}")

    def _drawn(self, job: Job, input_ref: str, lines: list[Line], now: float) -> ProviderJob:
        random = self._random
        odd = random.random() < self.odd
        course: Course = random.choices([*COURSES], [*COURSES.values()])[0] if odd else "completes"
        defects = {random.choice(DEFECTS)} if odd else set()
        if odd and random.random() < 0.3:
            defects.add(random.choice(LASTING_DEFECTS))
        seconds = {"expires": 86_400.0, "never ends": float("inf")}.get(course) or random.choice(
            (0.0, 4.0, 60.0, 900.0)
        )
        return ProviderJob(
            ref=self._new_ref("job"),
            our_id=job.id if random.random() < 0.95 else None,
            input_ref=input_ref,
            lines=lines,
            created_at=now,
            listed_at=now + random.choice((0.0, 0.0, LISTING_LAG)),
            course=course,
            ends_at=now + seconds,
            defects=frozenset(defects),
            defect_seconds=random.choice((20.0, 200.0, 900.0)),
        )

    def arrive(self) -> None:
        """Time has passed: creates whose callers are gone take effect."""
        now = self.clock.now()
        arrived = [one for one in self._under_way if one[0] <= now]
        self._under_way = [one for one in self._under_way if one[0] > now]
        for at, account, job in arrived:
            try:
                self._create(account, job, at)
            except ProviderError as error:
                self._scheduler.trace.add(account.name, f"{job.id} failed late: {error.message}")

    def _seconds_left(self) -> float:
        """How long a create may still be on its way: its connection ends with the environment that made it."""
        environment = current()
        left = LATEST if environment is None else environment.deadline - self.clock.now()
        return max(0.0, min(LATEST, left)) * self._random.random()

    def _new_ref(self, kind: str) -> str:
        self._count += 1
        return f"{kind}-{self._count}"
