"""What keys, users and teams have in common: their limits, and the columns of these."""

from dataclasses import dataclass
from typing import LiteralString

from manifold.limits import Limits

COLUMNS: LiteralString = """rpm_limit, tpm_limit, max_parallel_requests, max_budget, budget_duration,
    batch_enqueued_token_limit, batch_enqueued_request_limit, batch_over_limit, retry_failed_lines"""
VALUES: LiteralString = """%(rpm_limit)s, %(tpm_limit)s, %(max_parallel_requests)s, %(max_budget)s, %(budget_duration)s,
    %(batch_enqueued_token_limit)s, %(batch_enqueued_request_limit)s, %(batch_over_limit)s, %(retry_failed_lines)s"""
"""The parameters of a statement that writes the columns."""
LIMITS: LiteralString = """jsonb_build_object(
    'rpm_limit', rpm_limit, 'tpm_limit', tpm_limit, 'max_parallel_requests', max_parallel_requests,
    'max_budget', max_budget::text, 'budget_duration', budget_duration,
    'batch_enqueued_token_limit', batch_enqueued_token_limit,
    'batch_enqueued_request_limit', batch_enqueued_request_limit, 'batch_over_limit', batch_over_limit)"""
"""The members of `Limits` from a row. The budget is text, to keep its digits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HolderSettings(Limits):
    """The limits, and the default of the holder's batches."""

    retry_failed_lines: int | None = None
    """How often the failed lines of a batch run again that does not say so itself."""
