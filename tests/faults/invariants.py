"""What holds after every run, however many faults it had. Each invariant is a function that tells what breaks it."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from manifold.store.files import storage_key
from tests.faults import due
from tests.faults.simulation import Simulation

REQUEST = re.compile("request-[0-9]+")
ENDED = ("completed", "failed", "expired", "cancelled")
RANKS = {
    "batches": {"validating": 0, "in_progress": 1, "finalizing": 2, "cancelling": 2} | dict.fromkeys(ENDED, 3),
    "jobs": {"submitting": 0, "unknown": 1, "running": 2, "ended": 3, "stored": 4}
    | dict.fromkeys(("settled", "refused", "absent", "abandoned"), 5),
    "shards": {"waiting": 0, "running": 0, "ended": 1},
}
"""The order of states. A change goes to a later one; from the last there is none."""


def every_accepted_batch_has_ended(simulation: Simulation) -> Iterator[str]:
    statuses: dict[str, str] = dict(simulation.database.execute("SELECT id, status FROM batches"))
    for client in simulation.clients:
        for batch_id in client.accepted:
            if statuses.get(batch_id, "lost") not in ENDED:
                yield f"{batch_id} is {statuses.get(batch_id)}"


def nothing_is_due(simulation: Simulation) -> Iterator[str]:
    for what, _ in due.rows(simulation.database):
        yield f"{what} is still due"


def a_create_is_done_once(simulation: Simulation) -> Iterator[str]:
    for key, count in simulation.database.execute("SELECT metadata ->> 'request', count(*) FROM batches GROUP BY 1"):
        if count > 1:
            yield f"{key} made {count} batches"


def no_state_goes_back(simulation: Simulation) -> Iterator[str]:
    for kind, row_id, before, after in simulation.database.execute(
        "SELECT kind, id, before, after FROM history ORDER BY number"
    ):
        ranks = RANKS.get(kind)
        if ranks is None or before is None or (before == after != "ended" and before not in ENDED):
            continue
        if ranks[after] < ranks[before] or (ranks[before] == max(ranks.values()) and before != after):
            yield f"{kind}: {row_id} went from {before} to {after}"


def a_job_is_submitted_once(simulation: Simulation) -> Iterator[str]:
    """No two jobs at providers for one of ours, and never two open ones for the same lines."""
    for our_id, count in Counter(job.our_id for job in simulation.providers.jobs() if job.our_id).items():
        if count > 1:
            yield f"{our_id} was submitted {count} times"
    rows = simulation.database.execute("SELECT id, batch_id, state, provider_ref FROM jobs")
    known = {ref for _, _, _, ref in rows if ref}
    for job in simulation.providers.jobs():
        row = next((row for row in rows if row[0] == job.our_id), None)
        if row is not None and row[2] in ("refused", "absent"):
            yield f"{job.ref} runs at the provider, but {row[0]} is {row[2]}"
        if job.ref not in known and (row is None or row[2] != "abandoned") and job.our_id:
            yield f"{job.ref} at the provider belongs to no job of ours"


def nothing_wrong_is_asked_of_a_provider(simulation: Simulation) -> Iterator[str]:
    """Not the same lines twice at once, nor more than a deployment is known to take."""
    yield from simulation.providers.wrong
    abandoned = {
        at for (at,) in simulation.database.execute("SELECT deployment_id FROM jobs WHERE state = 'abandoned'")
    }
    for account in simulation.providers.accounts.values():  # an abandoned job may still run there
        if account.over and account.limits.enqueued_requests == account.quota and account.name not in abandoned:
            yield f"{account.name} was sent more than its quota, {account.over} times"


def nobody_elses_job_is_touched(simulation: Simulation) -> Iterator[str]:
    """Neither cancelled nor deleted; nor taken for one of ours, as `Providers.wrong` tells."""
    for ref in simulation.providers.harmed():
        yield f"{ref} is no job of ours, and was cancelled or deleted"


def room_sums_to_zero(simulation: Simulation) -> Iterator[str]:
    """No job holds room, and no shard waits for it."""
    for job_id, state in simulation.database.execute(
        "SELECT id, state FROM jobs WHERE state NOT IN ('settled', 'refused', 'absent', 'abandoned')"
    ):
        yield f"{job_id} is {state}"
    for deployment_id, held in simulation.held.items():
        if held.jobs or held.requests or held.tokens:
            yield f"{deployment_id} has {held}"
    for (shard_id,) in simulation.database.execute("SELECT id FROM shards WHERE waiting_since IS NOT NULL"):
        yield f"{shard_id} waits for room"


def usage_is_what_the_provider_counted(simulation: Simulation) -> Iterator[str]:
    """Of each settled job whose results are complete. Answers that a provider does not hand out may count as none."""
    if not simulation.providers.runs_batches:
        return
    jobs = {job.ref: job for job in simulation.providers.jobs()}
    query = """SELECT j.id, j.provider_ref, j.state, u.requests, u.failed_requests, u.input_tokens, u.output_tokens,
                   b.errors FROM jobs j JOIN batches b ON b.id = j.batch_id LEFT JOIN usage u ON u.job_id = j.id"""
    for job_id, ref, state, requests, failed, input_tokens, output_tokens, errors in simulation.database.execute(query):
        if state != "settled":
            if requests is not None:
                yield f"{job_id} is {state}, and has usage"
            continue
        if ref is None:  # none of its requests could be translated, so it was not sent
            continue
        job = jobs.get(ref)
        if job is None:
            yield f"{job_id} has the usage of {ref}, which is no job of ours"
            continue
        answered = [] if "lost" in job.defects else [*job.answered.values()]
        counted = (
            len(answered),
            sum(one.failed for one in answered),
            sum(one.input_tokens for one in answered),
            sum(one.output_tokens for one in answered),
        )
        recorded = (requests, failed, input_tokens, output_tokens)
        same = recorded == counted if simulation.providers.bills_lines else recorded[2:] == counted[2:]
        withheld = job.state in simulation.providers.withholds and not any(recorded)
        # Where a stopped job leaves lines out, and counts none, nothing tells that they were answered.
        untold = job.state in ("cancelled", "expired") and {"lines missing", "no counts"} <= set(job.defects)
        if not (same or withheld or untold) and not _codes(errors) & INCOMPLETE:
            yield f"{job_id} has the usage {recorded}; the provider counted {counted}"


INCOMPLETE = {"results_incomplete", "results_lost", "results_missing", "results_invalid", "job_lost", "batch_abandoned"}
"""Errors of a batch that say that results are missing."""


def every_line_is_answered_once(simulation: Simulation) -> Iterator[str]:
    """In the output or the error file of a completed batch; elsewhere no line twice."""
    lines = {file_id: ids for client in simulation.clients for file_id, ids in client.lines.items()}
    query = (
        "SELECT id, status, input_file_id, output_file_id, error_file_id, completed, failed, total, errors FROM batches"
    )
    for batch_id, status, file_id, output, error, completed, failed, total, errors in simulation.database.execute(
        query
    ):
        if file_id not in lines:
            continue
        results = [*_results(simulation, output), *_results(simulation, error)]
        answered = Counter(one.get("custom_id") for one in results)
        codes = _codes(errors)
        for custom_id, count in answered.items():
            if count > 1 and "results_repeated" not in codes:
                yield f"{custom_id} of {batch_id} is answered {count} times"
            if custom_id not in lines[file_id] and not codes & INCOMPLETE:
                yield f"{custom_id} of {batch_id} is answered, and was not in its input"
        if status == "completed" and not codes & INCOMPLETE and set(answered) != set(lines[file_id]):
            yield f"{batch_id} is completed without answers to {set(lines[file_id]) - set(answered)}"
        if completed + failed > total:
            yield f"{batch_id} counts {completed} + {failed} of {total}"


def each_answer_is_to_its_own_request(simulation: Simulation) -> Iterator[str]:
    """Models echo prompts, and each prompt has its line's id. A request that cannot be translated has no answer, and
    is a failed line of a completed batch."""
    lines = {file_id: ids for client in simulation.clients for file_id, ids in client.lines.items()}
    odd = {file_id: ids for client in simulation.clients for file_id, ids in client.odd.items()}
    query = "SELECT id, status, input_file_id, output_file_id, error_file_id FROM batches"
    for batch_id, status, file_id, output, error in simulation.database.execute(query):
        for result in [*_results(simulation, output), *_results(simulation, error)]:
            named = set(REQUEST.findall(json.dumps((result.get("response") or {}).get("body"))))
            if result.get("custom_id") in lines.get(file_id, ()) and named - {result["custom_id"]}:
                yield f"{result['custom_id']} of {batch_id} has the answer to {named}"
        if not simulation.providers.drop_params:
            refused = odd.get(file_id, set())
            for custom_id in refused & {one.get("custom_id") for one in _results(simulation, output)}:
                yield f"{custom_id} of {batch_id} is answered, and cannot be translated"
            if status == "completed":  # that the provider's results are incomplete explains none of these
                for custom_id in refused - {one.get("custom_id") for one in _results(simulation, error)}:
                    yield f"{custom_id} of {batch_id} cannot be translated, and is no failed line"


def no_object_is_forgotten(simulation: Simulation) -> Iterator[str]:
    """The bucket has the bytes of the files that are shown, and no others."""
    shown = {
        storage_key(file_id)
        for (file_id,) in simulation.database.execute("SELECT id FROM files WHERE deleted_at IS NULL")
    }
    for key in simulation.objects.keys() - shown:
        start, _, rest = key.partition("/")
        if start != "inputs" or storage_key(rest.partition("/")[0]) not in shown:
            yield f"{key} is in the bucket, and no file"
    for key in shown - simulation.objects.keys():
        yield f"{key} is a file, and not in the bucket"


def no_copy_is_forgotten(simulation: Simulation) -> Iterator[str]:
    """A provider has the inputs that rows name, those that it will drop, and those whose delete it refused for good."""
    named: dict[str, str] = dict(
        simulation.database.execute("SELECT provider_ref, state FROM inputs WHERE provider_ref IS NOT NULL")
    )
    undeletable = set().union(*(account.undeletable for account in simulation.providers.accounts.values()))
    for account, ref, name in simulation.providers.kept_inputs():
        if named.get(ref) != "ready" and ref not in undeletable:
            yield f"{name} ({ref}) is at {account}, and no input"


def nothing_unexpected_was_raised(simulation: Simulation) -> Iterator[str]:
    for error in simulation.unexpected:
        if not (isinstance(error, ValueError) and "not what it should be" in str(error)):  # the provider's garbage
            yield f"unexpected: {error!r}"


Invariant = Callable[[Simulation], Iterator[str]]
INVARIANTS: tuple[Invariant, ...] = (
    every_accepted_batch_has_ended,
    nothing_is_due,
    a_create_is_done_once,
    no_state_goes_back,
    a_job_is_submitted_once,
    nothing_wrong_is_asked_of_a_provider,
    nobody_elses_job_is_touched,
    room_sums_to_zero,
    usage_is_what_the_provider_counted,
    every_line_is_answered_once,
    each_answer_is_to_its_own_request,
    no_object_is_forgotten,
    no_copy_is_forgotten,
    nothing_unexpected_was_raised,
)


def broken(simulation: Simulation) -> list[str]:
    """What does not hold, each with the invariant's name."""
    return told(simulation, INVARIANTS)


def told(simulation: Simulation, of: Sequence[Invariant]) -> list[str]:
    """The same, of these invariants alone."""
    return [f"{invariant.__name__}: {what}" for invariant in of for what in invariant(simulation)]


def _codes(errors: list[dict[str, Any]] | None) -> set[str]:
    return {error["code"] for error in errors or ()}


def _results(simulation: Simulation, file_id: str | None) -> list[dict[str, Any]]:
    content = simulation.objects.get(storage_key(file_id), b"") if file_id else b""
    return [json.loads(line) for line in content.splitlines() if line.strip()]
