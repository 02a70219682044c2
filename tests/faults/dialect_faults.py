"""The faults of a run with a dialect that other runs do not have: of one HTTP call, and of a job."""

from random import Random

from local.provider import Fault
from local.provider.defects import Defects, Ending
from tests.support.batch_dialects import BatchDialect

CALL_FAULTS = (
    Fault(kind="cut"),
    Fault(kind="cut", when="after"),
    Fault(kind="error"),
    Fault(kind="error", status=503, when="after"),
    Fault(kind="garbage"),
    Fault(kind="garbage", when="after"),
    Fault(kind="hang", when="after"),
    Fault(kind="rate_limit"),
    Fault(kind="truncate"),
)
"""How a call may go wrong: it is not done, or it is done and the adapter does not hear of it."""
PARTS = {"prepare": ("prepare", "stored"), "results": ("results", "fetched")}
"""The methods of `BatchDialect.routes` within one operation, where they are several."""


def call_fault(random: Random, dialect: BatchDialect, operation: str) -> Fault | None:
    """A fault of one of the calls that the adapter makes for this operation; `None` if it makes none."""
    routes = [dialect.routes[name] for name in PARTS.get(operation, (operation,)) if name in dialect.routes]
    if not routes:
        return None
    return random.choice(CALL_FAULTS).model_copy(update={"account": dialect.account, "route": random.choice(routes)})


def job_defects(random: Random) -> Defects:
    """How a job goes otherwise than well: passing, lasting, or in how it ends."""
    seconds = random.choice((0.0, 30.0, 3_000.0))
    code = random.choice(("token_limit_exceeded", "internal_error", "invalid_json_line"))
    return random.choice(
        (
            Defects(shuffled=True),
            Defects(late_counts=True),
            Defects(unnamed=2),
            Defects(missing=1),
            Defects(repeated=1),
            Defects(misnamed=1),
            Defects(stall="in_progress"),
            Defects(ending=Ending(state="expired", seconds=seconds, answered=random.randint(0, 3))),
            Defects(ending=Ending(state="failed", seconds=seconds, code=code)),
            Defects(ending=Ending(state="cancelled", seconds=seconds, answered=1)),
            Defects(ending=Ending(state="gone", seconds=seconds)),
        )
    )
