"""The files of a batch's results."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TypeVar

from local.provider.batch import Batch
from local.provider.defects import Defects
from local.provider.files import Files
from local.provider.line_faults import LineFaults
from local.provider.line_shape import Unanswered
from local.provider.lines import answers, unanswered
from local.provider.quotas import Quotas

ResultT = TypeVar("ResultT")


class Abandoned(Exception):
    """The batch was cleared while its results were written."""


class ResultFiles:
    """Writes results, each line once it is answered, and counts what they used."""

    def __init__(self, files: Files, quotas: Quotas) -> None:
        self._files = files
        self._quotas = quotas
        self._tries: Counter[str] = Counter()
        self._abandoned = False

    def write(self, batch: Batch, defects: Defects, why: Unanswered | None) -> None:
        """The output file and the error file of the lines that are done, each named only where it has a line; a shape
        of one list has the output file alone. `why`: with it the other lines are among the failures. Raises
        `Abandoned`."""
        account, path, shape, created = batch.account.name, batch.file.path, batch.shape, int(batch.created_at)
        faults = LineFaults(defects.lines, self._tries) if defects.lines is not None else None
        shuffled = shape.shuffled or defects.shuffled
        output, errors = (
            self._files.result(account, f"{batch.id}_{kind}.jsonl", shuffled=shuffled, new_file_id=batch.new_file_id)
            for kind in ("output", "error")
        )
        failures = output if shape.one_list else errors
        with output, errors:
            results = answers(path, shape, batch.id, created, batch.done, faults)
            for answer in self._until_abandoned(results):
                (output if answer.succeeded else failures).write(defects.written(answer.line, shape.marks))
                batch.failed += not answer.succeeded
                batch.input_tokens += answer.input_tokens
                batch.output_tokens += answer.output_tokens
            rest = unanswered(path, shape, batch.id, created, batch.done, why) if why else ()
            for line in self._until_abandoned(rest):
                failures.write(line)
        batch.output_file_id, batch.error_file_id = output.file_id, errors.file_id
        answered = batch.done - batch.failed
        self._quotas.answer(batch.quota_key, answered, batch.input_tokens, batch.output_tokens)

    def abandon(self) -> None:
        """Stop writing, in whatever thread."""
        self._abandoned = True

    def resume(self) -> None:
        """Write again, as if no line had been tried before."""
        self._abandoned = False
        self._tries.clear()

    def _until_abandoned(self, results: Iterable[ResultT]) -> Iterator[ResultT]:
        for result in results:
            if self._abandoned:
                raise Abandoned
            yield result
