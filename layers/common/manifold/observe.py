"""Logs and metrics: one logger, one set of metrics, and the few ways in which Manifold uses them.

Log lines are JSON (AWS Lambda Powertools); their service is `POWERTOOLS_SERVICE_NAME`, their level
`POWERTOOLS_LOG_LEVEL`. Prompts, answers and secrets stay out of them: `event` takes short scalar fields only
(under `data`, so that none meets a key of Powertools'), what looks like a key or a signature is struck out of each
line, and an invocation's event is never logged, whatever `POWERTOOLS_LOGGER_LOG_EVENT` says.

Metrics are CloudWatch EMF lines in the namespace `Manifold`; `Metric` has all their names.
"""

import gc
import json
import re
from collections.abc import Callable
from enum import StrEnum
from functools import wraps
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

from manifold.errors import ManifoldError, ProviderError

Handler = Callable[[Any, Any], Any]
Field = str | int | float | bool | None

_LONGEST_FIELD = 500  # characters: enough for a provider's message, not for a body

_CALLER = 3  # frames up: a line's `location` is where `event` was called

_SECRETS = re.compile(
    r"""\bsk-[\w-]{8,}                     # virtual keys, and many a provider's
      | (?<=Bearer\ )[\w.~+/=-]+
      | (?<=://)[^\s/"@]+(?=@)             # user and password of a URL
      | (?<=X-Amz-Signature=)[0-9a-fA-F]+
    """,
    re.VERBOSE,
)


class Metric(StrEnum):
    """What is counted. Each is a sum over the period that one asks for, with the dimension `service`."""

    FAULTS = "Faults"
    """Exceptions that nobody raised on purpose: the metric to alarm on."""
    INPUTS_READY = "InputsReady"
    """Inputs that a deployment holds now."""
    INPUTS_FAILED = "InputsFailed"
    """Inputs that were given up."""
    JOBS_SUBMITTED = "JobsSubmitted"
    """Jobs that a provider accepted."""
    JOBS_REFUSED = "JobsRefused"
    """Submissions that a provider refused."""
    JOBS_UNCLEAR = "JobsUnclear"
    """Submissions of unknown outcome, to be looked for at the provider."""
    BATCHES_ENDED = "BatchesEnded"
    """Batches that are completed, failed, expired or cancelled."""


def _serialize(line: dict[str, Any]) -> str:
    return scrub(json.dumps(line, default=str, ensure_ascii=False, separators=(",", ":")))


def scrub(text: str) -> str:
    """The text, with what looks like a key, a password or a signature struck out."""
    return _SECRETS.sub("***", text)


logger = Logger(json_serializer=_serialize)
metrics = Metrics(namespace="Manifold")


def event(name: str, /, **fields: Field) -> None:
    """Log that something happened: `event("job_submitted", job_id=job.id, deployment_id=…)`."""
    logger.info(name, data=_short(fields), stacklevel=_CALLER)


def warning(name: str, /, **fields: Field) -> None:
    """Log something that an operator should look at, although work goes on."""
    logger.warning(name, data=_short(fields), stacklevel=_CALLER)


def failed(name: str, error: ProviderError | ManifoldError, /, **fields: Field) -> None:
    """Log, as a warning, what a call came to: its status, and its cause in our own words.

    What the provider said of it often quotes the request, so it is logged at DEBUG alone.
    """
    cause = error.cause if isinstance(error, ProviderError) else error.message
    logger.warning(name, data=_short(fields | {"status": error.status, "cause": cause}), stacklevel=_CALLER)
    if isinstance(error, ProviderError) and error.raw_detail is not None:
        logger.debug(
            f"{name}_provider_message", data=_short({"provider_message": error.raw_detail}), stacklevel=_CALLER
        )


def fault(error: BaseException, /, **fields: Field) -> None:
    """Log an exception that nobody raised on purpose, with its traceback, and count it."""
    logger.error("fault", exc_info=error, data=_short(fields), stacklevel=_CALLER)
    count(Metric.FAULTS)


def count(metric: Metric, value: int = 1) -> None:
    """Add to a metric; it is written when the invocation ends."""
    metrics.add_metric(name=metric, unit=MetricUnit.Count, value=value)


def observed(handler: Handler) -> Handler:
    """A Lambda handler whose log lines carry the invocation's request id, and whose metrics are written at its end.

    The context must be Lambda's. To be called when the function's modules have been imported: they stay, and the
    garbage collector is told to leave them alone, as a look at them all takes 20 ms of some request.
    """
    gc.freeze()

    @wraps(handler)
    def observe(event: Any, context: Any) -> Any:
        try:
            return handler(event, context)
        finally:
            if metrics.metric_set:  # Powertools warns of an empty set, and most invocations count nothing
                metrics.flush_metrics()

    with_context: Handler = logger.inject_lambda_context(observe, log_event=False, clear_state=True)
    return with_context


def _short(fields: dict[str, Field]) -> dict[str, Field]:
    return {name: value[:_LONGEST_FIELD] if isinstance(value, str) else value for name, value in fields.items()}
