"""What providers do in more than one way, as callers report: which one an account does is a switch."""

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Variants(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    late_requests: Literal["missing", "errors"] = "missing"
    """Whether Bedrock, Vertex AI and Gemini write the requests that ran out of time into the results, as errors."""
    gemini_states: Literal["BATCH_STATE", "JOB_STATE"] = "BATCH_STATE"
    gemini_failures: Literal["error", "status"] = "error"
    """The member of a line of Gemini's results that says why the request failed."""
