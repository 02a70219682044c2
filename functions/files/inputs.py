"""Which inputs a new file gets: one for each deployment that may run it."""

from manifold.deployments import Deployments
from manifold.store import Tables
from manifold.store.files import FileRow


async def ensure(tables: Tables, file: FileRow, deployments: Deployments) -> list[str]:
    """Have the file's inputs, and return the ids of those to prepare.

    Lines with errors go nowhere: a batch of them fails before any deployment is asked.
    """
    if file.report is None or file.report["error_count"]:
        return []
    return await tables.inputs.ensure(file.id, [one.id for one in deployments.of(file.groups)])
