"""What a batch of a file would cost about, before it is created."""

import asyncio
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

from files.catalog import file_not_found
from manifold.batch_estimate import BatchEstimate
from manifold.deployments import Deployments
from manifold.errors import InvalidRequest
from manifold.jsonl.report import Report
from manifold.reading import Reading
from manifold.schemas import CostEstimate, CostRange, ModelCost
from manifold.store.reads import SeenFile

if TYPE_CHECKING:
    from manifold.prices import Prices

_NOTE = (
    "The input tokens are estimated from a sample of the lines, mostly within 20 %, for GPT-4o's tokenizer; "
    "images, audio and files count by constants. The maximum output is the sum of what the lines state. Costs are US "
    "dollars at batch prices, without discounts for cached input: of the cheapest and the dearest deployment."
)
_OLD = "The file was uploaded before tokens were estimated. Upload it again to have an estimate."
_NO_LIMIT = "Some lines state no max_completion_tokens, so the largest cost is unknown."
_NO_PRICE = (
    "No price is known for a model whose costs are null. Of an Azure deployment, the admin names the model as "
    "model_info.base_model."
)
_ERRORS = "The file has bad lines, so a batch of it fails, and costs nothing."


class CostEstimates:
    """Estimates what a batch of a file costs that the holder of a key sees. The route `…/cost-estimate` calls it.

    Holds the reading, the deployments and the prices. Raises `NotFound` for a file that the holder does not see, and
    `InvalidRequest` for one that is no input of a batch.
    """

    def __init__(self, reading: Reading, deployments: Deployments, prices: "Prices") -> None:
        self._reading = reading
        self._deployments = deployments
        self._prices = prices

    async def of(self, file_id: str) -> CostEstimate:
        """The estimate for each model group of the file that the caller may use."""
        caller, seen = await self._reading.read(lambda reads: reads.file(file_id, report=True))
        if seen is None:
            raise file_not_found(file_id)
        row, report = seen.file, _report(seen)
        batch = BatchEstimate.of(report)
        groups = [group for group in row.groups if caller.may_use(group)]
        if batch is None:
            models = [ModelCost(model=group) for group in groups]
        else:
            models = await asyncio.to_thread(_models, groups, self._deployments, self._prices, batch)
        return CostEstimate(
            file_id=row.id,
            requests=report.lines,
            input_tokens=batch.input_tokens if batch else None,
            max_output_tokens=batch.output_tokens if batch else None,
            models=models,
            note=_note(report, batch, models),
        )


def _report(seen: SeenFile) -> Report:
    if seen.file.purpose != "batch" or seen.report is None:
        message = f"The file {seen.file.id} is no input of a batch. Upload one with the purpose 'batch'."
        raise InvalidRequest(message, param="file_id", code="invalid_purpose")
    return Report.from_json(seen.report)


def _models(groups: Sequence[str], deployments: Deployments, prices: "Prices", batch: BatchEstimate) -> list[ModelCost]:
    models = []
    for group in groups:
        costs = [batch.costs(one, prices) for one in deployments.of([group])]
        inputs = [cost[0] for cost in costs if cost is not None]
        most = [cost[1] for cost in costs if cost is not None and cost[1] is not None]
        models.append(ModelCost(model=group, input_cost=_range(inputs), max_cost=_range(most)))
    return models


def _range(costs: Sequence[Decimal]) -> CostRange | None:
    return CostRange(min=float(min(costs)), max=float(max(costs))) if costs else None


def _note(report: Report, batch: BatchEstimate | None, models: Sequence[ModelCost]) -> str:
    if batch is None:
        return _OLD
    parts = [_NOTE]
    if batch.output_tokens is None:
        parts.append(_NO_LIMIT)
    if any(model.input_cost is None for model in models):
        parts.append(_NO_PRICE)
    if report.error_count:
        parts.append(_ERRORS)
    return " ".join(parts)
