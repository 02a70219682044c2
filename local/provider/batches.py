"""The batches of the simulated provider's accounts. Each moves by the clock, and is updated when it is read."""

import itertools
import secrets
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from local.provider.accounts import Account
from local.provider.defects import Defects
from local.provider.files import File, Files
from local.provider.lines import answers, expired, validate
from local.provider.refusal import Refusal, not_found

ENDED = frozenset({"completed", "failed", "expired", "cancelled"})


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds that a batch stays in a state, and that an Azure file takes to become usable."""

    validating: float = 0.5
    in_progress: float = 1.5
    finalizing: float = 0.5
    cancelling: float = 0.5
    processing: float = 0.2

    def faster(self, factor: float) -> "Pace":
        return Pace(
            self.validating / factor,
            self.in_progress / factor,
            self.finalizing / factor,
            self.cancelling / factor,
            self.processing / factor,
        )

    def of(self, state: str) -> float:
        seconds: float = getattr(self, state)
        return seconds


@dataclass
class Batch:
    id: str
    account: Account
    file: File
    endpoint: str
    completion_window: str
    metadata: Mapping[str, str] | None
    created_at: float
    state: str = "validating"
    since: float = 0.0
    times: dict[str, float] = field(default_factory=dict)
    model: str | None = None
    total: int = 0
    done: int = 0
    failed: int = 0
    errors: list[dict[str, Any]] = field(default_factory=list)
    output_file_id: str | None = None
    error_file_id: str | None = None
    lock: threading.RLock = field(default_factory=threading.RLock)

    def enter(self, state: str, moment: float) -> None:
        self.state, self.since = state, moment
        self.times[state] = moment


class Batches:
    """All accounts' batches."""

    def __init__(self, files: Files, pace: Pace) -> None:
        self._files = files
        self._batches: dict[str, Batch] = {}
        self.pace = pace
        self.stalls: dict[str, str] = {}
        """Account name → the state that its batches do not leave."""
        self.defects: dict[str, Defects] = {}
        """Account name → the defects of its ended batches."""

    def create(
        self, account: Account, file: File, endpoint: str, window: str, metadata: Mapping[str, str] | None
    ) -> Batch:
        now = time.time()
        batch = Batch(f"batch_{secrets.token_hex(12)}", account, file, endpoint, window, metadata, now)
        batch.enter("validating", now)
        self._batches[batch.id] = batch
        return batch

    def get(self, account: str, batch_id: str) -> Batch:
        batch = self._batches.get(batch_id)
        if batch is None or batch.account.name != account:
            raise not_found("Batch", batch_id)
        return self._updated(batch)

    def page(self, account: str, after: str | None, limit: int) -> tuple[list[Batch], bool]:
        """The account's batches, newest first, and whether there are more."""
        own: Iterator[Batch] = (batch for batch in reversed(self._batches.values()) if batch.account.name == account)
        if after is not None:
            self.get(account, after)
            own = itertools.islice(itertools.dropwhile(lambda batch: batch.id != after, own), 1, None)
        batches = list(itertools.islice(own, limit + 1))
        return [self._updated(batch) for batch in batches[:limit]], len(batches) > limit

    def cancel(self, account: str, batch_id: str) -> Batch:
        batch = self.get(account, batch_id)
        with batch.lock:
            if batch.state in ENDED:
                raise Refusal(409, "conflict", f"Cannot cancel a batch with status '{batch.state}'.")
            if batch.state != "cancelling":
                batch.done = self.progress(batch)
                batch.enter("cancelling", time.time())
        return batch

    def end(self, batch: Batch) -> None:
        """End a cancel at once, as at a provider that has no state `cancelling`."""
        with batch.lock:
            if batch.state == "cancelling":
                self._leave(batch, time.time())

    def expire(self, account: str, batch_id: str | None) -> int:
        """Expire the account's open batches (or one), half done. Returns how many."""
        open_ones = [
            batch
            for batch in self._batches.values()
            if batch.account.name == account and batch_id in (None, batch.id) and batch.state not in ENDED
        ]
        for batch in open_ones:
            with batch.lock:
                self._expire(batch)
        return len(open_ones)

    def progress(self, batch: Batch) -> int:
        """How many lines are answered so far."""
        if batch.state != "in_progress":
            return batch.done
        share = (time.time() - batch.since) / max(self.pace.in_progress, 0.001)
        return int(batch.total * min(share, 0.99))

    def forget(self, batch_id: str) -> None:
        """Lose a batch, as a provider might."""
        self._batches.pop(batch_id, None)

    def clear(self) -> None:
        self._batches.clear()
        self.stalls.clear()
        self.defects.clear()

    def _updated(self, batch: Batch) -> Batch:
        with batch.lock:
            while batch.state not in ENDED and self.stalls.get(batch.account.name) != batch.state:
                due = batch.since + self.pace.of(batch.state)
                if due > time.time():
                    break
                self._leave(batch, due)
        return batch

    def _leave(self, batch: Batch, moment: float) -> None:
        if batch.state == "validating":
            self._validate(batch, moment)
        elif batch.state == "in_progress":
            batch.done = batch.total
            batch.enter("finalizing", moment)
        elif batch.state == "finalizing":
            self._write_results(batch)
            batch.enter("completed", moment)
        else:
            self._write_results(batch)
            batch.enter("cancelled", moment)

    def _validate(self, batch: Batch, moment: float) -> None:
        report = validate(batch.file.path, batch.endpoint, batch.account)
        batch.errors = report.errors
        if report.errors:
            return batch.enter("failed", moment)
        batch.total, batch.model = report.total, report.model
        return batch.enter("in_progress", moment)

    def _expire(self, batch: Batch) -> None:
        if batch.state == "validating":
            self._validate(batch, time.time())
            if batch.state == "failed":
                return
        batch.done = batch.total // 2
        self._write_results(batch, late=expired(batch.file.path, batch.id, batch.done))
        batch.enter("expired", time.time())

    def _write_results(self, batch: Batch, late: Iterable[bytes] = ()) -> None:
        """The output file and the error file, each named only where it has a line."""
        account = batch.account.name
        defects = self.defects.get(account, Defects())
        output = self._files.result(account, f"{batch.id}_output.jsonl")
        errors = self._files.result(account, f"{batch.id}_error.jsonl")
        with output, errors:
            results = answers(batch.file.path, batch.id, int(batch.created_at), batch.done, batch.account.dialect)
            for succeeded, line in results:
                (output if succeeded else errors).write(defects.written(line))
                batch.failed += not succeeded
            for line in late:
                errors.write(line)
        batch.output_file_id = output.file_id
        batch.error_file_id = errors.file_id
