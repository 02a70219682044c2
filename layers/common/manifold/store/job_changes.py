"""What happened to a running job, as `manifold.store.jobs` writes it."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from manifold import storable
from manifold.store.batches import Outcome

Fault = Literal["provider", "input", "unknown"]


class JobEnd(NamedTuple):
    """How a job ended at its provider, and the ids that our files of its results will have."""

    outcome: Outcome
    output_ref: str | None
    error_ref: str | None
    output_file_id: str | None
    error_file_id: str | None
    errors: Sequence[Mapping[str, Any]]
    answers: int | None = None
    fault: Fault | None = None

    @property
    def stores(self) -> bool:
        """Whether there are results to store."""
        return self.output_file_id is not None or self.error_file_id is not None


class JobPoll(NamedTuple):
    """A poll of a running job that did not end it."""

    job_id: str
    answered: bool = True
    premature: bool = False
    """Whether it reported an end that cannot be right yet."""
    cancelled: bool = False
    """Whether the provider accepted the job's cancel beside it."""


def columns(end: JobEnd) -> dict[str, Any]:
    """The columns of an end in the table `jobs`; JSON's null is an SQL NULL."""
    return {
        "stores": end.stores,
        "outcome": end.outcome,
        "output_ref": end.output_ref,
        "error_ref": end.error_ref,
        "output_file_id": end.output_file_id,
        "error_file_id": end.error_file_id,
        "errors": storable.value(list(end.errors)) or None,
        "answers": end.answers,
        "fault": end.fault,
    }
