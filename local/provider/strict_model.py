"""The base of the models of requests: an unknown parameter is refused by its name, as OpenAI does."""

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")
