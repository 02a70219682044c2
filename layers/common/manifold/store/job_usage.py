"""The usage of jobs: one row for each, written in the transaction that settles it."""

from collections.abc import Mapping
from decimal import Decimal

from manifold import storable
from manifold.store.batches import BatchRow
from manifold.store.connection import Connection
from manifold.store.jobs import JobRow
from manifold.store.meters import Meters


class JobUsage:
    """Tokens, requests and cost of jobs, beside `Calls`, which has those of completions."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def record(
        self, batch: BatchRow, job: JobRow, model_group: str, counts: Mapping[str, int], cost: Decimal | None
    ) -> None:
        """Write the usage of a job, once: a second record of a job violates the primary key.

        `counts` are by column (`requests`, `input_tokens`, …). `cost` is in US dollars, `None` where no price is known;
        it counts against the budgets of the batch's key, user and team.
        """
        await self._connection.execute(
            """INSERT INTO usage (job_id, batch_id, deployment_id, model_group, user_id, team_id, key_id,
                   requests, failed_requests, input_tokens, cached_tokens, output_tokens, reasoning_tokens, cost)
               VALUES (%(job)s, %(batch)s, %(deployment)s, %(group)s, %(user)s, %(team)s, %(key)s,
                   %(requests)s, %(failed_requests)s, %(input_tokens)s, %(cached_tokens)s, %(output_tokens)s,
                   %(reasoning_tokens)s, %(cost)s)""",
            {
                "job": job.id,
                "batch": batch.id,
                "deployment": job.deployment_id,
                "group": model_group,
                "user": batch.user_id,
                "team": batch.team_id,
                "key": batch.key_id,
                "cost": cost,
                **{name: storable.count(number, storable.MOST_OF_A_BATCH) for name, number in counts.items()},
            },
        )
        holders = {"key": batch.key_id, "user": batch.user_id, "team": batch.team_id}
        subjects = [f"{holder}:{holder_id}" for holder, holder_id in holders.items() if holder_id is not None]
        if cost is not None and subjects:
            await Meters(self._connection).use(subjects, cost)
