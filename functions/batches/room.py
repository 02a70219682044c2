"""Whether a deployment has room for a shard, and whose turn it is. Pure, without I/O.

Room is first come first served within an owner and fair between owners (`Rooms.line`). A shard may overtake another
that does not fit, but none that has waited for `PATIENCE_SECONDS`: from then on, what comes free is kept for that one.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Protocol

from manifold.config.batch_limits import BatchLimits
from manifold.store.rooms import Held, InLine


class Load(Protocol):
    """What is to be run: a shard, or what is known of one."""

    @property
    def requests(self) -> int: ...
    @property
    def tokens(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Room:
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
        return replace(
            self,
            jobs=_less(self.jobs, 1),
            requests=_less(self.requests, load.requests),
            tokens=_less(self.tokens, load.tokens),
            idle=False,
        )


def may_take(room: Room, line: Iterable[InLine], shard_id: str, load: Load) -> bool:
    """Whether this shard may take its room now, beside those that stand before it in the line."""
    for earlier in line:
        if earlier.id == shard_id:
            break
        if room.fits(earlier):
            room = room.without(earlier)
        elif earlier.impatient:
            return False
    return room.fits(load)


def _less(limit: int | None, used: int) -> int | None:
    return None if limit is None else limit - used


def _holds(limit: int | None, needed: int) -> bool:
    return limit is None or needed <= limit
