"""Logs and metrics: one logger, one set of metrics, and a function for each kind of line.

Log lines are JSON (AWS Lambda Powertools); their service is `POWERTOOLS_SERVICE_NAME`, their level
`POWERTOOLS_LOG_LEVEL`. They contain no prompts, answers or secrets: fields are short scalars (under `data`, apart from
Powertools' own keys), what looks like a key or a signature is replaced by `***` in each line, and an invocation's event
is never logged, whatever `POWERTOOLS_LOGGER_LOG_EVENT` is. A line's name is a noun and a verb: `job_submitted`.

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
      | \bwhsec_[\w+/=-]{8,}             # webhooks' secrets
      | (?<=Bearer\ )[\w.~+/=-]+
      | (?<=://)[^\s/"@]+(?=@)             # user and password of a URL
      | (?<=X-Amz-Signature=)[0-9a-fA-F]+
    """,
    re.VERBOSE,
)


class Metric(StrEnum):
    """The names of all metrics. Each is a sum over a period, with the dimension `service`."""

    FAULTS = "Faults"
    """Unexpected exceptions, and 5xx errors of our own: the metric to alarm on."""
    INPUTS_READY = "InputsReady"
    """Inputs whose upload to a deployment succeeded."""
    INPUTS_FAILED = "InputsFailed"
    """Inputs whose upload was given up."""
    JOBS_SUBMITTED = "JobsSubmitted"
    """Jobs that a provider accepted."""
    JOBS_REFUSED = "JobsRefused"
    """Submissions that a provider refused."""
    JOBS_UNCLEAR = "JobsUnclear"
    """Submissions of unknown outcome, whose job is then searched for at the provider."""
    BATCHES_ENDED = "BatchesEnded"
    """Batches that are completed, failed, expired or cancelled."""
    EVENTS_DELIVERED = "EventsDelivered"
    """Events that a webhook's endpoint took."""
    EVENTS_NOT_TAKEN = "EventsNotTaken"
    """Attempts at which a webhook's endpoint did not take an event."""


def _serialize(line: dict[str, Any]) -> str:
    return scrub(json.dumps(line, default=str, ensure_ascii=False, separators=(",", ":")))


def scrub(text: str) -> str:
    """The text, with `***` for what looks like a key, a password or a signature."""
    return _SECRETS.sub("***", text)


logger = Logger(json_serializer=_serialize)
metrics = Metrics(namespace="Manifold")


def event(name: str, /, **fields: Field) -> None:
    """Log that something happened: `event("job_submitted", job_id=job.id, deployment_id=…)`."""
    logger.info(name, data=_short(fields), stacklevel=_CALLER)


def warning(name: str, /, **fields: Field) -> None:
    """Log what an operator should look at, although work goes on."""
    logger.warning(name, data=_short(fields), stacklevel=_CALLER)


def failed(name: str, error: ProviderError | ManifoldError, /, **fields: Field) -> None:
    """Log an error that was handled, as a warning: its status, and its cause in our own words.

    A provider's message often quotes the request, so it is logged at DEBUG alone.
    """
    cause = error.cause if isinstance(error, ProviderError) else error.message
    logger.warning(name, data=_short(fields | {"status": error.status, "cause": cause}), stacklevel=_CALLER)
    if isinstance(error, ProviderError) and error.raw_detail is not None:
        logger.debug(
            f"{name}_provider_message", data=_short({"provider_message": error.raw_detail}), stacklevel=_CALLER
        )


def fault(error: BaseException, /, **fields: Field) -> None:
    """Log an unexpected exception with its traceback, and count it in `Metric.FAULTS`."""
    logger.error("fault", exc_info=error, data=_short(fields), stacklevel=_CALLER)
    count(Metric.FAULTS)


def count(metric: Metric, value: int = 1) -> None:
    """Add to a metric; it is written when the invocation ends."""
    metrics.add_metric(name=metric, unit=MetricUnit.Count, value=value)


def observed(handler: Handler) -> Handler:
    """A Lambda handler whose log lines have the invocation's request id, and whose metrics are written at its end.

    The context must be Lambda's. Call this after all imports: it excludes the objects that exist by then from garbage
    collection, as a scan of them takes 20 ms of some request.
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
