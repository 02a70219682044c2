"""Deployments for tests that need only their id."""

from manifold.config import Deployment, PlainText


def deployment(deployment_id: str, group: str = "group", provider: str = "openai") -> Deployment:
    """A deployment at an address where nothing listens, without optional settings."""
    return Deployment(
        id=deployment_id,
        group=group,
        provider=provider,
        model="model",
        api_base=PlainText("http://127.0.0.1:1"),
        api_key=PlainText("key"),
        api_version=None,
        organization=None,
        weight=None,
        order=None,
        rpm=None,
        tpm=None,
        timeout=None,
        stream_timeout=None,
        max_retries=None,
        tags=(),
        mode=None,
        base_model=None,
        path="",
    )
