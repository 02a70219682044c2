"""A model of a request's part that names what it does not know, as OpenAI does."""

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")
