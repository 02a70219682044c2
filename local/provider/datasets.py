"""Datasets: what Cohere and Fireworks have in place of files. One may be used once it is validated."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from local.provider.accounts import Account
from local.provider.files import File
from local.provider.object_store import ObjectStore, Writer
from local.provider.refusal import Refusal

BUCKET = "datasets"
STALLED = "dataset"
"""In place of the state of a batch: an account with this stall has datasets that are never validated."""


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a dataset, and the object that has its bytes."""

    name: str
    key: str
    bytes: int
    rows: int = 0


@dataclass
class Dataset:
    id: str
    account: Account
    name: str
    kind: str
    """Of Cohere's: the form of its rows."""
    created_at: float
    declared_rows: int = 0
    """How many its creator says it has, which nobody checks."""
    source: str = ""
    """The job that made it."""
    input: File | None = None
    """What was uploaded; `None`: nothing yet."""
    uploads: Sequence[str] = ()
    """The keys of the objects that may be put for it."""
    parts: Sequence[Part] = ()
    valid_at: float | None = None
    """When it is validated, if it is not stalled."""
    error: str | None = None
    """What its validation found."""


class Datasets:
    """All accounts' datasets. Removing one forgets it; the bytes stay for the batches that read them."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._datasets: dict[tuple[str, str], Dataset] = {}

    def add(self, dataset: Dataset) -> Dataset:
        """Raises a `Refusal` if the account has one with this id."""
        key = dataset.account.name, dataset.id
        if key in self._datasets:
            raise Refusal(409, "ALREADY_EXISTS", f"dataset {dataset.id} already exists")
        self._datasets[key] = dataset
        return dataset

    def get(self, account: Account, dataset_id: str) -> Dataset:
        dataset = self._datasets.get((account.name, dataset_id))
        if dataset is None:
            raise Refusal(404, "NOT_FOUND", "resource not found")
        return dataset

    def has(self, account: Account, dataset_id: str) -> bool:
        return (account.name, dataset_id) in self._datasets

    def of(self, account: Account) -> list[Dataset]:
        """The account's, oldest first."""
        return [dataset for (name, _), dataset in self._datasets.items() if name == account.name]

    def remove(self, account: Account, dataset_id: str) -> None:
        del self._datasets[account.name, self.get(account, dataset_id).id]

    def part(self, account: Account, dataset_id: str, name: str, path: Path, rows: int = 0) -> Part:
        """A part with the bytes of this file."""
        key = f"dataset/{dataset_id}/{name}"
        kept = self._objects.keep(account, BUCKET, key, Writer.of(path), "application/octet-stream")
        return Part(name, key, kept.size, rows)

    def clear(self) -> None:
        self._datasets.clear()
