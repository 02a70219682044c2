"""An event as a webhook gets it, apart from how it is posted: an API that makes one need not load the HTTP client."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class SignedEvent:
    """An event as it is sent: `id` is the same at each attempt, `sent_at` is not."""

    id: str
    body: str
    sent_at: datetime


class NotAnswered(Exception):
    """There was no answer. The text says why, for the owner of the webhook."""
