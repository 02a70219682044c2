"""What LiteLLM's names of Bedrock's models say: region and API before the model, as in `bedrock/invoke/us-east-1/…`."""

import re
from typing import NamedTuple

BEDROCK = "bedrock"
REGION_NAME = "AWS_REGION"
"""Lambda sets it, to the function's own region."""
INVOCATION = "bedrock_invocation"
"""The option in which a deployment has `BedrockModel.invocation`."""

_MODEL = re.compile(
    r"(?:(?P<before>converse|invoke)/)?(?:(?P<region>[a-z]{2}(?:-[a-z]+)+-\d+)/)?"
    r"(?:(?P<after>converse|invoke)/)?(?P<model>.+)"
)
_ARN = re.compile(r"arn:[^:/]+:bedrock:(?P<region>[a-z0-9-]+):")


class BedrockModel(NamedTuple):
    id: str
    """The model's id or ARN at AWS."""
    region: str | None = None
    invocation: str | None = None
    """The API that batches use, `converse` or `invoke`; `None`: that which fits the model."""


def bedrock_model(written: str) -> BedrockModel:
    """Read `litellm_params.model` after its prefix."""
    match = _MODEL.fullmatch(written)
    if match is None:
        return BedrockModel(written)
    arn = _ARN.match(match["model"])
    region = match["region"] or (arn["region"] if arn else None)
    return BedrockModel(match["model"], region, match["before"] or match["after"])
