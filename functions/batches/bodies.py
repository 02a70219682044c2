"""The body of a request that makes a batch."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from manifold.create_body import CreateBody
from manifold.retry_rounds import Rounds
from manifold.schemas import BatchEndpoint, ExpiresAfter

MetadataKey = Annotated[str, StringConstraints(max_length=64)]
MetadataValue = Annotated[str, StringConstraints(max_length=512)]
Metadata = Annotated[dict[MetadataKey, MetadataValue], Field(max_length=16)]


class BatchCreate(CreateBody):
    """The body of `POST /batches`. `model` and `retry_failed_lines` are ours: which of a file's model groups is to run
    it, and how often lines that failed run again."""

    input_file_id: str
    endpoint: BatchEndpoint
    completion_window: Literal["24h"]
    metadata: Metadata | None = None
    output_expires_after: ExpiresAfter | None = None
    model: str | None = None
    retry_failed_lines: Rounds | None = None
