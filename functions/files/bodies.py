"""The JSON bodies of requests that announce and complete files."""

from typing import Annotated, Any

from pydantic import Field, StringConstraints

from manifold.create_body import CreateBody
from manifold.schemas import ExpiresAfter


class FilePresign(CreateBody):
    """The body of `POST /files/presign`: a file whose bytes are to come.

    `target_model_names` is Manifold's own field, `model` LiteLLM's for one group.
    """

    filename: str
    purpose: str
    bytes: int = Field(ge=1)
    expires_after: ExpiresAfter | None = None
    target_model_names: Any = None
    model: Any = None


class UploadCreate(FilePresign):
    """The body of `POST /uploads`. `mime_type` is required, as at OpenAI, and not used."""

    mime_type: str


Md5 = Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{32}$")]


class FileComplete(CreateBody):
    """The body of `POST /files/{file_id}/complete`, which may be left out."""

    md5: Md5 | None = None


class UploadComplete(FileComplete):
    """The body of `POST /uploads/{upload_id}/complete`: the parts in the order of their bytes."""

    part_ids: list[str] = Field(min_length=1)
