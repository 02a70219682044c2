"""The inputs of a new file: one for each deployment that may run it whole."""

from manifold.config import Deployment
from manifold.deployments import Deployments
from manifold.jsonl.report import Report
from manifold.store import Tables
from manifold.store.files import FileRow


async def ensure(tables: Tables, file: FileRow, deployments: Deployments) -> list[str]:
    """Add the inputs that a file lacks, and return the ids of those to upload.

    A file with bad lines gets no inputs: its batches fail before any deployment is asked. A deployment that cannot take
    the whole file gets none either: the inputs of a batch's shards are made when they are to run. Nor does one whose
    provider has no endpoint of the lines, or whose batches the gateway runs, which reads the file itself.
    """
    if file.report is None or file.report["error_count"]:
        return []
    report = Report.from_json(file.report)
    able = [deployment.id for deployment in deployments.of(file.groups) if _takes(deployment, report)]
    return await tables.inputs.ensure(file.id, able) if able else []


def _takes(deployment: Deployment, report: Report) -> bool:
    if deployment.execution == "gateway" or deployment.batch_endpoints.isdisjoint(report.urls):
        return False
    size, tokens = report.rewritten_bytes(deployment.model), sum(report.input_tokens or ())
    return deployment.limits.may_ever_take(report.lines, size, tokens)
