"""The batches of the simulated provider's accounts. Each moves by the clock, and is updated when it is read."""

import contextlib
import itertools
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from local.provider.accounts import Account
from local.provider.batch import ENDED, Batch
from local.provider.defects import Defects, Ending
from local.provider.faults import Faults
from local.provider.files import File, Files
from local.provider.line_shape import LineShape
from local.provider.pace import Pace
from local.provider.quotas import NO_LOAD, Load, Quotas
from local.provider.refusal import Refusal, not_found
from local.provider.result_files import Abandoned, ResultFiles
from local.provider.token_rules import file_tokens
from local.provider.validation import validate

INLINE_LINES = 10_000
"""A batch of more lines is updated in a thread of its own, and shown as it was: no call waits for it."""


class Batches:
    """All accounts' batches."""

    def __init__(self, files: Files, pace: Pace, faults: Faults, quotas: Quotas) -> None:
        self._results = ResultFiles(files, quotas)
        self._clock = files.clock
        self._faults = faults
        self._quotas = quotas
        self._batches: dict[str, Batch] = {}
        self._updates: dict[str, threading.Thread] = {}
        self.pace = pace
        self.stalls: dict[str, str] = {}
        """Account name → the state that its batches do not leave."""
        self.defects: dict[str, Defects] = {}
        """Account name → the defects of its batches that have none of their own."""

    def create(
        self,
        account: Account,
        file: File,
        shape: LineShape,
        *,
        endpoint: str = "",
        window: str = "24h",
        metadata: Mapping[str, str] | None = None,
        model: str | None = None,
        batch_id: str | None = None,
        new_file_id: Callable[[], str] | None = None,
        deliver: Callable[[Batch, str], None] | None = None,
    ) -> Batch:
        """Raises a `Refusal` for a batch that is over the quota of its model: the given one, or that of its lines."""
        key = account.name, model or (file.models[0] if file.models else "")
        quota = self._quotas.of(key)
        if quota.max_batch_bytes is not None and file.bytes > quota.max_batch_bytes:
            raise Refusal(400, "invalid_request", f"The file has more than {quota.max_batch_bytes} bytes.")
        if quota.limits_enqueued:
            for batch in self._open(account.name):
                self._updated(batch)
        tokens = file.tokens if quota.tokens == "bytes" else file_tokens(file.path, quota.tokens, shape)
        load, now = Load(tokens, file.lines, 1), self._clock.now()
        self._quotas.enqueue(key, load, account.dialect)
        defects = self._faults.take_job(*key)
        batch = Batch(
            id=batch_id or f"batch_{secrets.token_hex(12)}",
            account=account,
            file=file,
            shape=shape,
            quota_key=key,
            endpoint=endpoint,
            completion_window=window,
            metadata=metadata,
            created_at=now,
            load=load,
            defects=defects,
            model=model,
            new_file_id=new_file_id,
            deliver=deliver,
        )
        batch.enter("validating", now)
        self._batches[batch.id] = batch
        return batch

    def get(self, account: str, batch_id: str) -> Batch:
        batch = self._find(account, batch_id)
        if (defects := self.defects_of(batch)).unseen:
            defects.unseen -= 1
            raise not_found("Batch", batch_id)
        batch.polls += 1
        self._updated(batch)
        return self._find(account, batch_id)

    def page(self, account: str, after: str | None, limit: int) -> tuple[list[Batch], bool]:
        """The account's batches, newest first, and whether there are more."""
        own: Iterator[Batch] = (batch for batch in reversed(self._batches.values()) if self._is_listed(batch, account))
        if after is not None:
            self._find(account, after)
            own = itertools.islice(itertools.dropwhile(lambda batch: batch.id != after, own), 1, None)
        batches = list(itertools.islice(own, limit + 1))
        for batch in batches[:limit]:
            batch.polls += 1
            self._updated(batch)
        return [batch for batch in batches[:limit] if batch.id in self._batches], len(batches) > limit

    def cancel(self, account: str, batch_id: str) -> Batch:
        batch = self._updated(self._find(account, batch_id))
        with batch.lock:
            if batch.state in ENDED:
                raise Refusal(409, "conflict", f"Cannot cancel a batch with status '{batch.state}'.")
            if batch.state != "cancelling":
                batch.done = self.progress(batch)
                batch.enter("cancelling", self._clock.now())
        return batch

    def end(self, batch: Batch) -> None:
        """End a cancel at once, as at a provider that has no state `cancelling`."""
        with batch.lock:
            if batch.state == "cancelling":
                self._leave(batch, self._clock.now())

    def expire(self, account: str, batch_id: str | None) -> int:
        """Expire the account's open batches (or one), half done. Returns how many."""
        open_ones = [batch for batch in self._open(account) if batch_id in (None, batch.id)]
        for batch in open_ones:
            with batch.lock:
                self._end(batch, Ending(state="expired", answered=batch.file.lines // 2))
        return len(open_ones)

    def ids(self) -> list[str]:
        """The ids of all batches, also of those that have ended; not of those that were lost."""
        return list(self._batches)

    def known(self, batch_id: str) -> Batch:
        """Any batch, as it was when it was last looked at."""
        return self._batches[batch_id]

    def update(self, batch: Batch) -> None:
        """Let it take the steps that are due by now."""
        self._updated(batch)

    def progress(self, batch: Batch) -> int:
        """How many lines are answered so far."""
        if batch.state != "in_progress":
            return batch.done
        share = (self._clock.now() - batch.since) / max(self.pace.in_progress, 0.001)
        return int(batch.total * min(share, 0.99))

    def defects_of(self, batch: Batch) -> Defects:
        """Its own, else those of its account. They count down as they show."""
        return batch.defects or self.defects.get(batch.account.name) or Defects()

    def shown(self, batch: Batch) -> dict[str, Any]:
        """What a native dialect shows of a batch, with its defects: `request_counts` (OpenAI's `total`, `completed` and
        `failed`, `pending`, and `unanswered` once it has ended), `output_file_id` and `error_file_id`."""
        done, ended = self.progress(batch), batch.state in ENDED
        rest = batch.total - done
        counts = {
            "total": batch.total,
            "completed": done - batch.failed,
            "failed": batch.failed,
            "pending": 0 if ended else rest,
            "unanswered": rest if ended else 0,
        }
        files = {"output_file_id": batch.output_file_id, "error_file_id": batch.error_file_id}
        shown = self.defects_of(batch).shown({"request_counts": counts, **files}, ended=ended)
        return shown | {"request_counts": counts | shown["request_counts"]}

    def forget(self, batch_id: str) -> None:
        """Lose a batch, as a provider might."""
        batch = self._batches.pop(batch_id, None)
        if batch is not None:
            self._release(batch)

    def clear(self) -> None:
        self._results.abandon()
        for thread in list(self._updates.values()):
            thread.join()
        self._updates.clear()
        self._results.resume()
        self._batches.clear()
        self.stalls.clear()
        self.defects.clear()

    def _find(self, account: str, batch_id: str) -> Batch:
        batch = self._batches.get(batch_id)
        if batch is None or batch.account.name != account:
            raise not_found("Batch", batch_id)
        return batch

    def _is_listed(self, batch: Batch, account: str) -> bool:
        return batch.account.name == account and not self.defects_of(batch).unseen

    def _open(self, account: str) -> list[Batch]:
        return [
            batch
            for batch in list(self._batches.values())
            if batch.account.name == account and batch.state not in ENDED
        ]

    def _updated(self, batch: Batch) -> Batch:
        if batch.file.lines <= INLINE_LINES:
            with batch.lock:
                self._advance(batch)
            return batch
        thread = self._updates.get(batch.id)
        if thread is None or not thread.is_alive():
            self._updates[batch.id] = thread = threading.Thread(target=self._update, args=(batch,), daemon=True)
            thread.start()
        return batch

    def _update(self, batch: Batch) -> None:
        with batch.lock, contextlib.suppress(Abandoned):
            self._advance(batch)

    # From here on the batch's lock is held.

    def _advance(self, batch: Batch) -> None:
        """Take the steps that are due by now."""
        defects = self.defects_of(batch)
        while batch.state not in ENDED:
            ending, now = defects.ending, self._clock.now()
            if ending is not None and batch.state in ("validating", "in_progress") and _is_due(batch, ending, now):
                return self._end(batch, ending)
            waits = ending is not None and batch.state == "in_progress"
            stalled = batch.state in (self.stalls.get(batch.account.name), defects.stall)
            due = batch.since + self.pace.of(batch.state)
            if waits or stalled or due > now:
                return None
            self._leave(batch, due)
        return None

    def _leave(self, batch: Batch, moment: float) -> None:
        if batch.state == "validating":
            self._validate(batch, moment)
        elif batch.state == "in_progress":
            batch.done = batch.total
            batch.enter("finalizing", moment)
        else:
            self._write(batch, "completed" if batch.state == "finalizing" else "cancelled", moment)

    def _validate(self, batch: Batch, moment: float) -> None:
        key = batch.quota_key
        report = validate(batch.file.path, batch.shape, batch.account, self._quotas.of(key).max_batch_requests)
        batch.errors = report.errors
        if not batch.errors and (error := self._quotas.start(key, batch.load)) is not None:
            batch.errors = [error]
        if batch.errors:
            return self._finish(batch, "failed", moment)
        batch.started, batch.total, batch.model = True, report.total, batch.model or report.model
        return batch.enter("in_progress", moment)

    def _end(self, batch: Batch, ending: Ending) -> None:
        """End the batch before it is done."""
        now = self._clock.now()
        if ending.state == "gone":
            return self.forget(batch.id)
        if batch.state == "validating" and (ending.state in batch.shape.endings or ending.answered):
            self._validate(batch, now)
            if batch.state == "failed":
                return None
        batch.done = min(ending.answered, batch.total)
        if ending.state == "failed":
            batch.errors = [ending.error()]
        return self._write(batch, ending.state, now)

    def _write(self, batch: Batch, state: str, moment: float) -> None:
        """Write the results of the lines that are done, and end the batch in this state."""
        self._results.write(batch, self.defects_of(batch), batch.shape.endings.get(state))
        self._finish(batch, state, moment)

    def _finish(self, batch: Batch, state: str, moment: float) -> None:
        if batch.deliver is not None:
            batch.deliver(batch, state)
        batch.enter(state, moment)
        self._release(batch)

    def _release(self, batch: Batch) -> None:
        """Once: a batch may be forgotten while a thread ends it."""
        load, batch.load = batch.load, NO_LOAD
        self._quotas.release(batch.quota_key, load, started=batch.started)


def _is_due(batch: Batch, ending: Ending, now: float) -> bool:
    return batch.polls > ending.polls and now >= batch.created_at + ending.seconds
