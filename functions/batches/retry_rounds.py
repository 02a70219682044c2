"""How often lines of a batch that failed run again: `retry_failed_lines`."""

from collections.abc import Callable, Sequence


def retry_rounds(
    requested: int | None, of_key: int | None, groups: Sequence[str], of_group: Callable[[str], int]
) -> int:
    """The rounds of a new batch: what its create says, else its key, else the setting of its model groups."""
    if requested is not None:
        return requested
    if of_key is not None:
        return of_key
    return max(map(of_group, groups), default=0)
