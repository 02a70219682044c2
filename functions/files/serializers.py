"""Rows as OpenAI's objects: a file, with Manifold's own field `inputs`, and an upload."""

from collections.abc import Sequence
from typing import cast

from manifold.deployments import Deployments
from manifold.responses import unix_time
from manifold.schemas import File, FilePurpose, InputState, Upload
from manifold.store.files import FileView
from manifold.store.inputs import InputView
from manifold.store.uploads import UploadRow


def file_object(row: FileView, inputs: Sequence[InputView], deployments: Deployments) -> File:
    """OpenAI's File object, with every member. `inputs` are those of this file."""
    return File(
        id=row.id,
        bytes=row.bytes,
        created_at=int(row.created_at.timestamp()),
        expires_at=unix_time(row.expires_at),
        filename=row.filename,
        purpose=cast(FilePurpose, row.purpose),
        status=row.status,
        status_details=row.status_details,
        target_model_names=row.groups or None,
        inputs=[_input_state(one, deployments) for one in inputs] if row.purpose == "batch" else None,
    )


def future_file(row: UploadRow) -> File:
    """The file of a pending upload: `uploaded`, and not yet to be used or retrieved."""
    return File(
        id=row.file_id,
        bytes=row.bytes,
        created_at=int(row.created_at.timestamp()),
        filename=row.filename,
        purpose=cast(FilePurpose, row.purpose),
        status="uploaded",
        target_model_names=row.names or None,
        inputs=[] if row.purpose == "batch" else None,
    )


def upload_object(row: UploadRow, file: File | None) -> Upload:
    """OpenAI's Upload object, with every member. `file` is that of a completed upload."""
    return Upload(
        id=row.id,
        bytes=row.bytes,
        created_at=int(row.created_at.timestamp()),
        expires_at=int(row.expires_at.timestamp()),
        filename=row.filename,
        purpose=cast(FilePurpose, row.purpose),
        status=row.status,
        file=file,
    )


def _input_state(row: InputView, deployments: Deployments) -> InputState:
    deployment = deployments.get(row.deployment_id)
    return InputState(
        deployment=row.deployment_id,
        model=deployment.group if deployment else None,
        state=row.state,
        error=row.error,
    )
