"""A file of many parts through the deployed stack: a small version of `python -m bench.large_file`."""

from bench.large_file import run_large_file
from bench.memory import GOAL
from local.running import Running


def test_a_file_in_parts_reaches_both_deployments_and_comes_back_in_constant_memory(stack: Running) -> None:
    run = run_large_file(stack, 20_000_000, 5_000)

    assert run.bytes > 19_000_000
    assert {"FilesApi", "FilesWorker"} <= {process.function for process in run.processes}
    assert max(process.grown for process in run.processes) < GOAL
