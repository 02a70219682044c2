"""The lines of a host with OpenAI's batches whose `url`s are not OpenAI's: Zhipu's are `/v4/…`."""

from collections.abc import Mapping
from typing import Any

from manifold.profiles import Profile
from manifold.providers.batch_lines import LineRequest, LineResult
from manifold.providers.openai.batch_lines import read_result

OPENAI_ROOT = "/v1"


class RootedLines:
    """A `LineTranslator` of OpenAI's lines, with the model's name at the provider and another root of the `url`."""

    def __init__(self, model: str, profile: Profile) -> None:
        self._model = model
        self._profile = profile

    @property
    def routes(self) -> frozenset[str]:
        return self._profile.endpoints

    def request(self, request: LineRequest) -> Mapping[str, Any]:
        return {
            "custom_id": request.id,
            "method": "POST",
            "url": rooted(request.route, self._profile.root),
            "body": {**request.body, "model": self._model},
        }

    def result(self, line: Mapping[str, Any]) -> LineResult:
        return read_result(line)


def rooted(endpoint: str, root: str) -> str:
    """The endpoint `/v1/…` below another root."""
    return root + endpoint.removeprefix(OPENAI_ROOT)
