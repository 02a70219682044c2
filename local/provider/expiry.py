"""How long a file or the output of a batch is kept: `expires_after`, with the bounds of each dialect in seconds."""

from local.provider.callers import Caller
from local.provider.refusal import Refusal

EXPIRY_BOUNDS = {"openai": (3_600, 2_592_000), "azure": (1_209_600, 2_592_000)}


def check_expiry(caller: Caller, anchor: object, seconds: int) -> int:
    """The seconds, or a `Refusal` if the dialect does not take them."""
    low, high = EXPIRY_BOUNDS[caller.account.dialect]
    if not caller.takes_expiry:
        raise Refusal(400, "invalidPayload", "Unknown parameter: 'expires_after'.", "expires_after")
    if anchor != "created_at" or not low <= seconds <= high:
        raise Refusal(400, "invalid_value", f"expires_after must be {low} to {high} seconds of created_at.")
    return seconds
