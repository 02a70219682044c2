"""One run: the gateway, its clients, its providers and its queues, under one scheduler.

First come some hundred steps with faults. Then the faults end, and the run goes on until nothing is due any more.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from random import Random

from manifold.errors import ManifoldError
from manifold.prices import Prices
from manifold.store.chunks import ChunkRow
from manifold.store.rooms import Held
from tests.faults import due
from tests.faults.aws import Delivery, SimulatedQueue, SimulatedStorage
from tests.faults.clients import Answer, Client, Request
from tests.faults.clock import BASE, Clock
from tests.faults.connections import SimulatedStore
from tests.faults.database import ServerDatabase
from tests.faults.deployments import deployments
from tests.faults.dialects import Make
from tests.faults.environments import Environment, Work
from tests.faults.faults import Faults
from tests.faults.functions import SECONDS, VISIBILITY, Functions, function_of
from tests.faults.loop import SimulatedLoop
from tests.faults.own_runs import OwnRun, WatchedExecution
from tests.faults.own_server import OwnServer
from tests.faults.scheduler import Choice, Scheduler
from tests.faults.trace import Trace

COUNTS = {"control": 3, "transfers": 3, "execution": 3, "poller": 2}
"""How many environments of each function there are."""
SCHEDULE_SECONDS = 60.0
PATIENCE = 600
"""For how many steps a client waits for the moment at which it changes its mind."""
MOST_ROUNDS = 400
"""Of time passing after the faults, until nothing is due any more."""
PRICES = Prices()


class Simulation:
    """Everything of one run. `live` is the run; `invariants` then judges what is left."""

    def __init__(self, database: ServerDatabase, seed: int, make_providers: Make, end: ExitStack) -> None:
        self.random = Random(seed)
        self.trace = Trace()
        self.database = database
        self.faults = Faults.drawn(self.random)
        self.scheduler = Scheduler(
            self.random,
            self.trace,
            stickiness=self.random.choice((0.0, 0.5, 0.9)),
            kill_rate=self.random.choice((0.0, 0.002, 0.01, 0.03)),
        )
        self.scheduler.more, self.scheduler.pass_time = self._choices, self._pass_time
        self.loop = SimulatedLoop(self.scheduler.idle)
        self.clock = Clock(self.loop, database)
        self.trace.clock = lambda: self.clock.now() - BASE
        self.queue = SimulatedQueue(self.clock, self.scheduler, self.faults)
        self.objects: dict[str, bytes] = {}
        self.providers = make_providers(self.clock, self.scheduler, self.faults, self._shard_of, end)
        self.held: Mapping[str, Held] = {}
        """What is held of each deployment's room at the end."""
        self.runs: list[OwnRun] = []
        """Of chunks that the gateway runs itself, the first one first."""
        if isinstance(self.providers, OwnServer):
            self.providers.runs, self.providers.standing = self.runs, self._standing
        self.unexpected: list[BaseException] = []
        """Exceptions that left a function, and that no fault explains."""
        requests = self.providers.requests
        self.clients = [Client(name, self, self.random, self.trace, requests) for name in self._names()]
        self._chaos_steps = self.random.choice((200, 500, 1000))
        self._again = self.random.choice((0.0, 0.02, 0.2))
        self._jumps = self.random.choice((0.0, 0.0, 0.01, 0.05))
        self._config, self._deployments_of = deployments(self.random, self.providers)
        self._environments: dict[str, list[tuple[Environment, Functions]]] = {}
        self._started, self._scheduled_at = 0, self.clock.now()
        self._quiet: asyncio.Future[None] | None = None
        self._clients_running = 0

    async def live(self) -> None:
        """The run, up to the time at which nothing is due."""
        for function, count in COUNTS.items():
            self._environments[function] = [self._new(function) for _ in range(count)]
        self._clients_running = len(self.clients)
        running = [asyncio.create_task(self._run_client(client)) for client in self.clients]
        await self._until_quiet()
        self._end_faults()
        for round_number in range(MOST_ROUNDS):
            await self._until_quiet()
            seconds = due.seconds(self.database, self.queue, self.clock)
            if seconds is None:
                break
            self._elapse(max(seconds, self._slowly(round_number)))
            if due.is_overdue(self.database, self.clock):
                self._run_schedule()
        await asyncio.gather(*running)
        async with SimulatedStore(self.database, self.scheduler, self.faults).session() as tables:
            self.held = await tables.rooms.held([account.name for account in self.providers.accounts.values()])

    async def request(self, what: str, send: Request[Answer]) -> Answer:
        """Answer a client's request in an environment of its own. Raises `ConnectionError` if it was killed."""
        environment, functions = self._new("api")
        task = environment.start(send(functions), self.clock.now())  # type: ignore[arg-type]
        await asyncio.wait([task])
        await functions.store.close()
        if environment.dead:
            raise ConnectionError("no answer")
        try:
            answer: Answer = task.result()
        except ManifoldError:
            raise
        except Exception as error:
            self.unexpected.append(error)
            raise ConnectionError("500") from error
        return answer

    async def at_work(self, batch_id: str, state: str) -> None:
        """Return while a worker takes a step and the batch has a job in this state, or when that does not come."""
        last = self.scheduler.decided + PATIENCE

        def is_over() -> bool:
            return self.scheduler.decided > last or self._is_at_work(batch_id, state)

        await self.scheduler.point(f"waits for {state}", is_over)

    # What may happen next.

    def _choices(self) -> Sequence[tuple[float, Choice]]:
        if not self.faults.over and self.scheduler.granted >= self._chaos_steps:
            self._end_faults()
        choices: list[tuple[float, Choice]] = []
        for delivery in self.queue.arrived():
            free = self._free(function_of(delivery.message))
            if free is not None:
                choices.append((1.0, partial(self._deliver, delivery, free)))
        if not self.faults.over:
            late = self.clock.now() - self._scheduled_at >= SCHEDULE_SECONDS / 3
            choices.append((0.05 if late else 0.002, self._run_schedule))
            choices.append((0.1, lambda: self._elapse(self.random.choice((0.5, 2.0, 5.0)))))
            if self._again and self.queue.sent:
                choices.append((self._again, self._deliver_again))
            if self._jumps:
                choices.append((self._jumps, self._jump))
        return choices

    def _pass_time(self, timeout: float | None) -> None:
        """Nothing can go on: let time pass up to the next timer or message. Those that are there wait for a worker."""
        waits = [one.arrives_at - self.clock.now() for one in self.queue.deliveries]
        waits = [seconds for seconds in waits if seconds > 0]
        if timeout is None and not self._clients_running and self._quiet is not None and not self._quiet.done():
            self._quiet.set_result(None)
            return
        if timeout is not None:
            waits.append(timeout)
        self._elapse(max(0.001, min(waits, default=SCHEDULE_SECONDS)))

    def _deliver(self, delivery: Delivery, free: tuple[str, int]) -> None:
        self.queue.deliveries.remove(delivery)
        function, number = free
        environment, functions = self._environments[function][number]
        self.trace.add(environment.name, f"gets {delivery.message.dump()}")
        self._work(function, number, functions.deliver(delivery.message), delivery)

    def _run_schedule(self) -> None:
        free = self._free("poller")
        if free is not None:
            self._scheduled_at = self.clock.now()
            function, number = free
            self._work(function, number, self._environments[function][number][1].run_schedule(), None)

    def _deliver_again(self) -> None:
        """Any message of before comes once more."""
        self.queue.deliveries.append(Delivery(self.random.choice(self.queue.sent[-20:]), self.clock.now()))

    def _jump(self) -> None:
        seconds = self.random.choice((20.0, 61.0, 95.0, 400.0, 4000.0))
        self.trace.add("clock", f"JUMPS by {seconds:g} s")
        self.clock.jump(seconds)
        self._moved()

    def _elapse(self, seconds: float) -> None:
        self.clock.elapse(seconds)
        self._moved()

    def _is_at_work(self, batch_id: str, state: str) -> bool:
        if not any(environment.busy for environment, _ in self._environments["control"]):
            return False
        query = "SELECT 1 FROM jobs WHERE batch_id = %s AND state = %s"
        return bool(self.database.execute(query, (batch_id, state)))

    # Environments.

    def _free(self, function: str | None) -> tuple[str, int] | None:
        for number, (environment, _) in enumerate(self._environments.get(function or "", ())):
            if not environment.busy:
                return str(function), number
        return None

    def _new(self, function: str) -> tuple[Environment, Functions]:
        self._started += 1
        environment = Environment(f"{function}-{self._started}", SECONDS[function])
        store = SimulatedStore(self.database, self.scheduler, self.faults)
        storage = SimulatedStorage(self.objects, self.scheduler, self.faults)
        deployments = self._deployments_of(store, self.queue, storage)
        run_chunk = WatchedExecution.made(store, storage, self.queue, deployments, PRICES, self._config, self).run
        return environment, Functions(store, storage, self.queue, deployments, PRICES, self._config, run_chunk)

    def _work(self, function: str, number: int, work: Work, delivery: Delivery | None) -> None:
        environment, _ = self._environments[function][number]
        task = environment.start(work, self.clock.now())
        task.add_done_callback(lambda task: self._worked(function, number, task, delivery))

    def _worked(self, function: str, number: int, task: "asyncio.Task[None]", delivery: Delivery | None) -> None:
        """Once an environment is done: a dead one is replaced, a message at which it failed comes again."""
        environment, _ = self._environments[function][number]
        if environment.dead:
            self._environments[function][number] = self._new(function)
        elif task.cancelled() or (error := task.exception()) is None:
            return
        else:
            self.trace.add(environment.name, f"failed: {error!r}")
            if not isinstance(error, ManifoldError):
                self.unexpected.append(error)
        if delivery is not None:
            self.queue.again(delivery, VISIBILITY[function])

    def _moved(self) -> None:
        """Time has passed: providers go on, and environments whose time is over are killed, as by Lambda."""
        self.providers.arrive()
        for environments in self._environments.values():
            for environment, _ in environments:
                if environment.busy and self.clock.now() > environment.deadline:
                    self.trace.add(environment.name, "KILLED, as its time is over")
                    self.scheduler.kill(environment)

    # The steps of a run.

    async def _run_client(self, client: Client) -> None:
        try:
            await client.run()
        finally:
            self._clients_running -= 1

    async def _until_quiet(self) -> None:
        self._quiet = self.loop.create_future()
        await self._quiet

    def _end_faults(self) -> None:
        if not self.faults.over:
            self.trace.add("simulation", "the faults are over")
            self.faults.over = True
            self.scheduler.kill_rate = 0.0

    def _slowly(self, round_number: int) -> float:
        """The least time that passes in this round: a batch may run for days, without a poll each minute."""
        return min(3600.0, 0.0 if round_number < 40 else 60.0 * 2 ** ((round_number - 40) // 10))

    def _shard_of(self, job_id: str) -> tuple[str, str] | None:
        """The shard of one of our jobs, and its state."""
        rows = self.database.execute("SELECT shard_id, state FROM jobs WHERE id = %s", (job_id,))
        return (rows[0][0], rows[0][1]) if rows else None

    def _standing(self, chunk: ChunkRow) -> tuple[bool, float]:
        """Whether a chunk has the same holder as before, and the Unix time from which on it is not to run."""
        query = """SELECT chunks.state = 'open' AND chunks.lease = %s
                AND jobs.state IN ('submitting', 'unknown', 'running'),
                extract(epoch FROM least(batches.cancelling_at, batches.expires_at))::float8
            FROM chunks JOIN jobs ON jobs.id = job_id JOIN batches ON batches.id = jobs.batch_id WHERE chunks.id = %s"""
        [(holds, stops_at)] = self.database.execute(query, (chunk.lease, chunk.id))
        return bool(holds), stops_at

    def _names(self) -> list[str]:
        return [f"owner-{number}" for number in range(1, self.random.choice((1, 2, 3)) + 1)]
