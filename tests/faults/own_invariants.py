"""What holds after a run with own execution, beside `tests.faults.invariants`. The servers' calls are the witness."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from manifold.store.files import storage_key
from tests.faults.own_server import Call, OwnServer
from tests.faults.simulation import Simulation

LATE_SECONDS = 30.0
"""After a cancel, the end of the window or the loss of a lease: in so long a worker has heard of it. It asks every two
seconds, and what it asks takes some steps, between which other things go on."""
UNHEARD_SECONDS = 120.0
"""The same where claims failed: five in a row, of up to 22 s each."""
WRITE_SECONDS = 30.0
"""In so long an answer is in the bucket, where that takes it."""
SERVER_STATUS = 500


def each_request_is_answered_once(simulation: Simulation) -> Iterator[str]:
    """In the output or the error file, also of a batch that was cancelled or whose window ended."""
    lines = {file_id: ids for client in simulation.clients for file_id, ids in client.lines.items()}
    query = """SELECT id, status, input_file_id, output_file_id, error_file_id FROM batches
        WHERE status IN ('completed', 'expired', 'cancelled')"""
    for batch_id, status, file_id, output, error in simulation.database.execute(query):
        answered = Counter(one["custom_id"] for one in [*_results(simulation, output), *_results(simulation, error)])
        if answered and answered != Counter(lines[file_id]):
            yield f"{batch_id} is {status}, and of {sorted(lines[file_id])} it has {sorted(answered.elements())}"


def a_server_that_is_down_fails_no_request(simulation: Simulation) -> Iterator[str]:
    """A request failed by a server's fault only where that answered a call which began later than one that failed."""
    for batch_id, error in simulation.database.execute("SELECT id, error_file_id FROM batches"):
        for line in _results(simulation, error):
            if ((line.get("response") or {}).get("status_code") or 0) < SERVER_STATUS:
                continue
            failed = [
                call
                for call in _calls(simulation)
                if call.outcome in ("failed", "cut")
                and (call.run.chunk.batch_id, call.custom_id) == (batch_id, line["custom_id"])
            ]
            if not any(_is_beside_an_answer(simulation, call) for call in failed):
                yield f"{line['custom_id']} of {batch_id} failed, and nothing was answered after it"


def no_request_is_called_again_without_need(simulation: Simulation) -> Iterator[str]:
    """Only after a call that failed, or whose answer was not stored as its worker died or lost its lease."""
    of_requests = defaultdict[tuple[str, str], list[Call]](list)
    for call in _calls(simulation):
        if call.custom_id:
            of_requests[call.run.chunk.id, call.custom_id].append(call)
    for (chunk_id, custom_id), calls in of_requests.items():
        for call in calls:
            if custom_id in call.run.stored:
                yield f"{custom_id} of {chunk_id} was called at {call.began:.1f}, and its answer was stored before"
        for earlier, later in pairwise(calls):
            if why := _needless(earlier, later, storage_fails=simulation.faults.rates["storage"] > 0):
                yield f"{custom_id} of {chunk_id} was called again at {later.began:.1f}: {why}"


def _needless(earlier: Call, later: Call, *, storage_fails: bool) -> str | None:
    """What is wrong with calling a request again; `None` if nothing is."""
    run = earlier.run
    if run is later.run:
        return "by the same worker" if earlier.ended is None or earlier.outcome == "answered" else None
    if later.run.chunk.attempts < run.chunk.attempts:  # its lease had gone to the other, which it does not know yet
        return None
    if earlier.outcome != "answered" or earlier.ended is None or storage_fails:
        return None
    if run.how == "returned" and run.stop != "lost" and run.ended is not None and run.ended <= later.run.began:
        return f"it was answered at {earlier.ended:.1f}, and its worker ended ({run.stop}) and forgot that"
    known_until = min(run.ended if run.ended is not None else later.began, later.run.began)
    if known_until - earlier.ended > WRITE_SECONDS:
        return f"it was answered at {earlier.ended:.1f}, and not stored up to {known_until:.1f}"
    return None


def no_stored_answer_is_lost(simulation: Simulation) -> Iterator[str]:
    """What was in the bucket as a worker began is in the files of the batch, unless that was ended by an admin."""
    query = """SELECT id, output_file_id, error_file_id FROM batches
        WHERE status IN ('completed', 'expired', 'cancelled')"""
    for batch_id, output, error in simulation.database.execute(query):
        results = [*_results(simulation, output), *_results(simulation, error)]
        kept = {one["custom_id"] for one in results if one["response"] is not None}
        runs = [run for run in simulation.runs if run.chunk.batch_id == batch_id]
        lost = frozenset[str]().union(*(run.stored for run in runs)) - kept
        if lost and results:
            yield f"{batch_id} has not {sorted(lost)}, which were stored"


def no_call_begins_after_the_end(simulation: Simulation) -> Iterator[str]:
    """Of the batch's window, by a cancel, or of the worker's lease: within some seconds calls stop."""
    for call in _calls(simulation):
        bound = UNHEARD_SECONDS if call.run.missed else LATE_SECONDS
        if call.stopped_for > bound:
            yield f"{call.custom_id} was called {call.stopped_for:.1f} s after its batch was to stop"
        if call.run.told_at is not None and call.began > call.run.told_at:
            yield f"{call.custom_id} was called at {call.began:.1f}, as its worker knew that it had lost the lease"
        if call.lost_for > bound:
            yield f"{call.custom_id} was called {call.lost_for:.1f} s after its worker had lost {call.run.chunk.id}"


def a_deployment_has_no_more_calls_than_it_takes(simulation: Simulation) -> Iterator[str]:
    """Of all workers that have their leases."""
    for deployment, most in _server(simulation).parallel.items():
        for call in _calls(simulation):
            if call.deployment == deployment and call.beside >= most:
                yield f"{deployment} had {call.beside + 1} calls at {call.began:.1f}"


def usage_is_of_the_answers_that_are_kept(simulation: Simulation) -> Iterator[str]:
    """What is billed of a batch without further rounds is what its output file has."""
    query = """SELECT b.id, b.output_file_id, sum(u.input_tokens)::int, sum(u.output_tokens)::int
        FROM batches b JOIN usage u ON u.batch_id = b.id GROUP BY 1, 2"""
    for batch_id, output, input_tokens, output_tokens in simulation.database.execute(query):
        usages = [line["response"]["body"]["usage"] for line in _results(simulation, output)]
        kept = (sum(one["prompt_tokens"] for one in usages), sum(one["completion_tokens"] for one in usages))
        if kept != (input_tokens, output_tokens):
            yield f"{batch_id} has the usage {(input_tokens, output_tokens)}, and answers of {kept}"


OWN_INVARIANTS = (
    each_request_is_answered_once,
    a_server_that_is_down_fails_no_request,
    no_request_is_called_again_without_need,
    no_stored_answer_is_lost,
    no_call_begins_after_the_end,
    a_deployment_has_no_more_calls_than_it_takes,
    usage_is_of_the_answers_that_are_kept,
)


def _is_beside_an_answer(simulation: Simulation, failed: Call) -> bool:
    ended = failed.ended
    return ended is not None and any(
        call.outcome == "answered" and call.deployment == failed.deployment and call.began >= ended
        for call in _calls(simulation)
    )


def _server(simulation: Simulation) -> OwnServer:
    assert isinstance(simulation.providers, OwnServer)
    return simulation.providers


def _calls(simulation: Simulation) -> list[Call]:
    return _server(simulation).calls


def _results(simulation: Simulation, file_id: str | None) -> list[dict[str, Any]]:
    content = simulation.objects.get(storage_key(file_id), b"") if file_id else b""
    return [json.loads(line) for line in content.splitlines() if line.strip()]
