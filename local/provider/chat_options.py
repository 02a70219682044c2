"""The parameters of a chat completion that are objects: https://platform.openai.com/docs/api-reference/chat/create"""

from typing import Annotated, Literal

from pydantic import Field

from local.provider.strict_model import Strict


class StreamOptions(Strict):
    include_usage: bool = False
    include_obfuscation: bool | None = None


class Voice(Strict):
    id: str


class AudioOptions(Strict):
    format: Literal["wav", "aac", "mp3", "flac", "opus", "pcm16"]
    voice: str | Voice


class Policy(Strict):
    mode: Literal["score", "block"]


class Policies(Strict):
    input: Policy | None = None
    output: Policy | None = None


class Moderation(Strict):
    model: str
    policy: Policies | None = None


class CacheOptions(Strict):
    mode: Literal["implicit", "explicit"] | None = None
    ttl: Literal["30m"] | None = None


class PredictedPart(Strict):
    type: Literal["text"]
    text: str


class Prediction(Strict):
    type: Literal["content"]
    content: str | list[PredictedPart]


class Place(Strict):
    city: str | None = None
    country: Annotated[str, Field(min_length=2, max_length=2)] | None = None
    region: str | None = None
    timezone: str | None = None


class UserLocation(Strict):
    type: Literal["approximate"]
    approximate: Place


class WebSearchOptions(Strict):
    search_context_size: Literal["low", "medium", "high"] | None = None
    user_location: UserLocation | None = None
