"""What jobs used: one row a job, written in the transaction that settles it."""

from collections.abc import Mapping

from manifold.store.batches import BatchRow
from manifold.store.connection import Connection
from manifold.store.jobs import JobRow


class Usages:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def record(self, batch: BatchRow, job: JobRow, model_group: str, counts: Mapping[str, int]) -> None:
        """Write what this job used, once: a second record of a job violates the primary key."""
        await self._connection.execute(
            """INSERT INTO usage (job_id, batch_id, deployment_id, model_group, user_id, team_id, key_id,
                   requests, failed_requests, input_tokens, cached_tokens, output_tokens, reasoning_tokens)
               VALUES (%(job)s, %(batch)s, %(deployment)s, %(group)s, %(user)s, %(team)s, %(key)s,
                   %(requests)s, %(failed_requests)s, %(input_tokens)s, %(cached_tokens)s, %(output_tokens)s,
                   %(reasoning_tokens)s)""",
            {
                "job": job.id,
                "batch": batch.id,
                "deployment": job.deployment_id,
                "group": model_group,
                "user": batch.user_id,
                "team": batch.team_id,
                "key": batch.key_id,
                **counts,
            },
        )
