"""Lines of Fireworks' batches. One line that Fireworks finds invalid fails the whole job, so roles are checked here."""

from collections.abc import Mapping
from typing import Any

from manifold.providers.batch_lines import LineRequest
from manifold.providers.content_parts import invalid_value
from manifold.providers.openai.batch_lines import BodyLines

ROLES: Mapping[str, str] = {role: role for role in ("system", "user", "assistant", "tool")} | {"developer": "system"}
"""The roles of messages, each as Fireworks names it: "must be 'system', 'user', 'assistant' or 'tool'"."""


class FireworksLines(BodyLines):
    """The `LineTranslator` of Fireworks. The job names the model."""

    def request(self, request: LineRequest) -> Mapping[str, Any]:
        line = super().request(request)
        messages = line["body"].get("messages")
        if not isinstance(messages, list) or not messages:
            raise invalid_value("messages", "must be a list of messages")
        return {**line, "body": {**line["body"], "messages": [_message(*one) for one in enumerate(messages)]}}


def _message(index: int, message: object) -> dict[str, Any]:
    if not isinstance(message, dict):
        raise invalid_value(f"messages[{index}]", "must be a message")
    role = message.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise invalid_value(f"messages[{index}].role", "must be system, developer, user, assistant or tool")
    return {**message, "role": ROLES[role]}
