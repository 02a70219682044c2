"""The inputs of a new file: one for each deployment that may run it."""

from manifold.deployments import Deployments
from manifold.store import Tables
from manifold.store.files import FileRow


async def ensure(tables: Tables, file: FileRow, deployments: Deployments) -> list[str]:
    """Add the inputs that a file lacks, and return the ids of those to upload.

    A file with bad lines gets no inputs: its batches fail before any deployment is asked.
    """
    if file.report is None or file.report["error_count"]:
        return []
    return await tables.inputs.ensure(file.id, [deployment.id for deployment in deployments.of(file.groups)])
