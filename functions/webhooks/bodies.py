"""The bodies of requests that make and change webhooks."""

from typing import Annotated

from pydantic import Field, StringConstraints

from manifold.batch_status import EventType
from manifold.create_body import CreateBody

Events = Annotated[list[EventType], Field(min_length=1, max_length=16)]
Name = Annotated[str, StringConstraints(max_length=256)]


class WebhookCreate(CreateBody):
    """The body of `POST /webhooks`."""

    url: str
    events: Events
    name: Name | None = None


class EndpointCreate(CreateBody):
    """The body of `POST /webhook_endpoints`."""

    url: str
    event_types: Events
    name: Name


class EndpointUpdate(CreateBody):
    """The body of `POST /webhook_endpoints/{webhook_endpoint_id}`; what is left out stays."""

    url: str | None = None
    event_types: Events | None = None
    name: Name | None = None


class SecretRotation(CreateBody):
    """The body of `POST …/rotate_secret`."""

    keep_old_secret_active_for_24_hours: bool = False


class SampleRequest(CreateBody):
    """The body of `POST …/test`."""

    event_type: EventType
