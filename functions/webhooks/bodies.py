"""The body of a request that makes a webhook."""

from typing import Annotated

from pydantic import Field, StringConstraints

from manifold.create_body import CreateBody
from manifold.schemas import EventType


class WebhookCreate(CreateBody):
    """The body of `POST /webhooks`."""

    url: str
    events: Annotated[list[EventType], Field(min_length=1, max_length=16)]
    name: Annotated[str, StringConstraints(max_length=256)] | None = None
