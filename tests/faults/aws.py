"""S3 and SQS of a run: in memory, interleaved by the scheduler, with faults."""

import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from manifold.errors import Unavailable
from manifold.queue import Message, Queue
from manifold.storage import Piece
from tests.faults.clock import Clock
from tests.faults.faults import Faults
from tests.faults.scheduler import Scheduler
from tests.support.memory_storage import MemoryStorage

MAX_RECEIVES = 5
"""After as many failures a message is in the dead-letter queue, and comes no more."""
_PIECE = 300  # bytes: a small file is read in several steps


@dataclass(eq=False)
class Delivery:
    """A message on its way; it arrives at a time of the clock."""

    message: Message
    arrives_at: float
    receives: int = 0


class SimulatedQueue(Queue):
    """The queues. Messages arrive in any order, twice, late or never."""

    def __init__(self, clock: Clock, scheduler: Scheduler, faults: Faults) -> None:
        self.deliveries: list[Delivery] = []
        self.sent: list[Message] = []
        self._clock, self._scheduler, self._faults = clock, scheduler, faults

    async def send(self, messages: Sequence[Message], *, delay: float = 0) -> list[Message]:
        given, delay = sorted(messages, key=lambda one: one.id), math.ceil(delay)
        await self._scheduler.point(f"send {', '.join(one.dump() for one in given)} in {delay} s")
        fault = self._noted("send")
        if fault == "before":
            raise Unavailable("The work queue did not answer. Try again shortly.")
        taken = given[: len(given) // 2] if fault == "partly" else given
        for message in taken:
            self._put(message, delay)
        if fault == "after":
            raise Unavailable("The work queue did not answer. Try again shortly.")
        return given[len(taken) :]

    def again(self, delivery: Delivery, seconds: float) -> None:
        """A worker failed at this message, and gets it again."""
        delivery.receives += 1
        if delivery.receives < MAX_RECEIVES:
            delivery.arrives_at = self._clock.now() + seconds
            self.deliveries.append(delivery)

    def arrived(self) -> list[Delivery]:
        """The messages that a worker may get now."""
        return [one for one in self.deliveries if one.arrives_at <= self._clock.now()]

    def _put(self, message: Message, delay: float) -> None:
        self.sent.append(message)
        fault = self._noted("message")
        if fault == "lost":
            return
        if fault == "late":
            delay += self._scheduler.random.choice((1, 20, 120, 900))
        for _ in range(2 if fault == "twice" else 1):
            self.deliveries.append(Delivery(message, self._clock.now() + delay))

    def _noted(self, operation: str) -> str | None:
        return self._faults.noted(operation, self._scheduler.trace)


class SimulatedStorage(MemoryStorage):
    """The bucket. Its objects outlive the environments, which share them."""

    def __init__(self, objects: dict[str, bytes], scheduler: Scheduler, faults: Faults) -> None:
        self.objects = objects
        self._scheduler, self._faults = scheduler, faults

    async def put(self, key: str, body: bytes) -> None:
        fault = await self._reach(f"put {key} ({len(body)} bytes)")
        await super().put(key, body)
        _raise_if(fault)

    async def read(self, key: str) -> AsyncIterator[bytes]:
        _raise_if(await self._reach(f"read {key}"))
        async for chunk in super().read(key):
            for start in range(0, len(chunk), _PIECE):
                yield chunk[start : start + _PIECE]
                _raise_if(await self._reach(f"read on in {key}"))

    async def get(self, key: str) -> bytes | None:
        _raise_if(await self._reach(f"get {key}"))
        return await super().get(key)

    async def fetch(self, piece: Piece) -> bytes:
        _raise_if(await self._reach(f"fetch {piece}"))
        return await super().fetch(piece)

    async def size(self, key: str) -> int | None:
        _raise_if(await self._reach(f"size of {key}"))
        return await super().size(key)

    async def delete(self, key: str) -> None:
        fault = await self._reach(f"delete {key}")
        await super().delete(key)
        _raise_if(fault)

    async def _reach(self, what: str) -> str | None:
        """Wait for the turn. Raises a fault that comes before the effect, and returns one that comes after it."""
        await self._scheduler.point(what)
        fault = self._faults.noted("storage", self._scheduler.trace, what)
        if fault == "before":
            _raise_if(fault)
        return fault


def _raise_if(fault: str | None) -> None:
    if fault is not None:
        raise Unavailable("The file storage did not answer. Try again shortly.")
