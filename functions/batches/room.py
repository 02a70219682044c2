"""Whether a deployment has room for a shard, and whose turn it is. Pure, without I/O.

Room goes to the owner that holds the fewest tokens, then to the one whose last turn is longest ago; of one owner, to
the shard that came first. A shard may overtake another that does not fit, but not for ever. The reasons and the bound
are in docs/decisions/0027-room.md.
"""

from collections import defaultdict, deque
from collections.abc import Iterable
from heapq import heapify, heappop, heappush
from typing import NamedTuple, Protocol

from manifold.config import BatchLimits
from manifold.store.rooms import Held, InLine

PATIENCE_SECONDS = 900.0
"""Waiting after which a shard is not overtaken by its owner's later ones. An owner that takes nothing for so long, and
has such a shard, is not overtaken by anyone."""


class Load(Protocol):
    """What is to be run: a shard, or what is known of one."""

    @property
    def requests(self) -> int: ...
    @property
    def tokens(self) -> int: ...


class Room(NamedTuple):
    """What a deployment can take now; `None`: as much as comes."""

    jobs: int | None = None
    requests: int | None = None
    tokens: int | None = None
    idle: bool = True
    """Whether nothing of ours is there: then any one shard may be tried, whatever is believed."""

    @classmethod
    def of(cls, limits: BatchLimits, held: Held | None) -> "Room":
        """The limits less what is held. What the provider said last outranks the configured tokens."""
        if held is None:
            return cls(limits.concurrent_batches, limits.enqueued_requests, limits.enqueued_tokens)
        tokens = min((one for one in (limits.enqueued_tokens, held.believed_tokens) if one is not None), default=None)
        return cls(
            _less(limits.concurrent_batches, held.jobs),
            _less(limits.enqueued_requests, held.requests),
            _less(tokens, held.tokens),
            idle=held.jobs == 0,
        )

    @property
    def is_bounded(self) -> bool:
        """Whether there is a limit, so that room must be taken in turn."""
        return not (self.jobs is None and self.requests is None and self.tokens is None)

    def fits(self, load: Load) -> bool:
        if self.jobs is not None and self.jobs <= 0:
            return False
        return self.idle or (_holds(self.requests, load.requests) and _holds(self.tokens, load.tokens))

    def without(self, load: Load) -> "Room":
        """The room that is left beside it."""
        return self._replace(
            jobs=_less(self.jobs, 1),
            requests=_less(self.requests, load.requests),
            tokens=_less(self.tokens, load.tokens),
            idle=False,
        )


class _Owner:
    """An owner with shards in a line, the first of which is its `head`."""

    def __init__(self, shards: Iterable[InLine]) -> None:
        self.shards = deque(shards)
        self.held = self.head.held
        self.since_turn = self.head.since_turn

    @property
    def head(self) -> InLine:
        return self.shards[0]

    @property
    def passed_over(self) -> float:
        """Seconds for which it has waited for a turn."""
        return self.head.waited if self.since_turn is None else min(self.head.waited, self.since_turn)

    @property
    def is_overdue(self) -> bool:
        return self.passed_over >= PATIENCE_SECONDS

    @property
    def rank(self) -> tuple[bool, int, float, str]:
        """The smallest one is next: first those that are overdue, then those that hold the fewest tokens."""
        return not self.is_overdue, 0 if self.is_overdue else self.held, -self.passed_over, self.head.id

    def take(self) -> None:
        self.held += self.head.tokens
        self.since_turn = 0.0


def takers(room: Room, line: Iterable[InLine]) -> list[str]:
    """The shards (ids) that may take the room of a deployment now, in their order.

    The line has each owner's shards in the order in which they came.
    """
    by_owner: dict[str, list[InLine]] = defaultdict(list)
    for shard in line:
        by_owner[shard.owner].append(shard)
    owners = {name: _Owner(shards) for name, shards in by_owner.items()}
    queue = [(owner.rank, name) for name, owner in owners.items()]
    heapify(queue)
    taking = list[str]()
    while queue:
        owner = owners[heappop(queue)[1]]
        head = owner.head
        if room.fits(head):
            room = room.without(head)
            owner.take()
            taking.append(head.id)
        elif owner.is_overdue:
            break  # what comes free is kept for it
        elif head.waited >= PATIENCE_SECONDS:
            continue  # its owner's later shards wait behind it
        owner.shards.popleft()
        if owner.shards:
            heappush(queue, (owner.rank, head.owner))
    return taking


def _less(limit: int | None, used: int) -> int | None:
    return None if limit is None else limit - used


def _holds(limit: int | None, needed: int) -> bool:
    return limit is None or needed <= limit
