"""A conversation as providers take it that are stricter than OpenAI: nobody says nothing, and each side waits its turn.

Turns that say nothing are left out, whose neighbours an adapter then joins where its provider wants sides to alternate.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from manifold.providers.content_parts import Part, Text, invalid_value, without_blanks
from manifold.providers.conversation import AssistantTurn, ResultTurn, SystemTurn, ToolCall, Turn, UserTurn, turns
from manifold.providers.tool_call_ids import IdRule, ToolCallIds

Marked = TypeVar("Marked", bound=Part | ToolCall)
NOTHING_SAID = "."
"""What a user says who said nothing, where there must be a user's turn."""


def read_history(messages: object, rule: IdRule) -> list[Turn]:
    """The turns that say something, with call ids that the provider takes. What the system alone said last is asked.

    `InvalidRequest` names what is not of OpenAI's shape, or says that nothing is said at all.
    """
    conversation = [_trimmed(turn) for turn in renamed(turns(messages), rule)]
    said = [turn for turn in conversation if _says_something(turn)]
    if not said:
        raise invalid_value("messages", "must say something: every message is empty")
    if _ends_in_silence(conversation):
        said.append(_silence(conversation[-1].path))
    return _asked(said)


def _asked(said: list[Turn]) -> list[Turn]:
    """The turns; where the system's alone came after the assistant's last, that is what the model is asked."""
    spoken = [turn for turn in said if not isinstance(turn, SystemTurn)]
    if not isinstance(said[-1], SystemTurn) or (spoken and not isinstance(spoken[-1], AssistantTurn)):
        return said
    last = said.pop()
    said.append(UserTurn(last.parts, last.path, last.extra))
    return said


def renamed(conversation: Sequence[Turn], rule: IdRule) -> list[Turn]:
    """The turns with ids of tool calls that the provider takes."""
    ids = ToolCallIds(rule, [known for turn in conversation for known in _ids(turn)])
    return [_renamed(turn, ids) for turn in conversation]


def user_first(conversation: Sequence[Turn]) -> list[Turn]:
    """The turns but the system's. Where the assistant begins, a user who says nothing goes before."""
    said: list[Turn] = [turn for turn in conversation if not isinstance(turn, SystemTurn)]
    return [_silence(said[0].path), *said] if isinstance(said[0], AssistantTurn) else said


def without_last_space(conversation: Sequence[Turn]) -> list[Turn]:
    """The turns, the last of which ends with no white space if it is the assistant's, for the model to go on."""
    *before, last = conversation
    if not isinstance(last, AssistantTurn) or not last.parts:
        return list(conversation)
    *parts, end = last.parts
    return [*before, replace(last, parts=(*parts, replace(end, text=end.text.rstrip())))]


def marked(conversation: Sequence[Turn]) -> list[Turn]:
    """The turns with a message's own mark on the last thing that it says, where providers want it."""
    return [_marked(turn) for turn in conversation]


def _silence(path: str) -> UserTurn:
    return UserTurn((Text(NOTHING_SAID, path, {}),), path)


def _ends_in_silence(conversation: Sequence[Turn]) -> bool:
    """Whether a user answered nothing: without that turn, the model would go on with what it said before."""
    spoken = [turn for turn in conversation if not isinstance(turn, SystemTurn)]
    said = [index for index, turn in enumerate(spoken) if _says_something(turn)]
    if not said or not isinstance(spoken[said[-1]], AssistantTurn):
        return False
    return any(isinstance(turn, UserTurn) for turn in spoken[said[-1] :])


def _says_something(turn: Turn) -> bool:
    """A result says that the call was made, however empty; thoughts alone are no turn of an assistant's."""
    return isinstance(turn, ResultTurn) or bool(turn.parts or (isinstance(turn, AssistantTurn) and turn.calls))


def _trimmed(turn: Turn) -> Turn:
    if isinstance(turn, UserTurn | ResultTurn):
        return replace(turn, parts=tuple(without_blanks(turn.parts)))
    return replace(turn, parts=_spoken(turn.parts))


def _spoken(parts: Sequence[Text]) -> tuple[Text, ...]:
    return tuple(part for part in parts if part.text.strip())


def _ids(turn: Turn) -> list[str]:
    if isinstance(turn, AssistantTurn):
        return [call.id for call in turn.calls]
    return [turn.call_id] if isinstance(turn, ResultTurn) else []


def _renamed(turn: Turn, ids: ToolCallIds) -> Turn:
    if isinstance(turn, AssistantTurn) and turn.calls:
        given = ids.calls([call.id for call in turn.calls])
        return replace(turn, calls=tuple(replace(call, id=one) for call, one in zip(turn.calls, given, strict=True)))
    return replace(turn, call_id=ids.result(turn.call_id)) if isinstance(turn, ResultTurn) else turn


def _marked(turn: Turn) -> Turn:
    match turn:
        case AssistantTurn(calls=calls) if calls:
            return replace(turn, calls=(*calls[:-1], _with(calls[-1], turn.extra)))
        case AssistantTurn() | SystemTurn():
            return replace(turn, parts=(*turn.parts[:-1], _with(turn.parts[-1], turn.extra)))
        case UserTurn():
            return replace(turn, parts=(*turn.parts[:-1], _with(turn.parts[-1], turn.extra)))
    return turn


def _with(last: Marked, extra: Mapping[str, Any]) -> Marked:
    """What the part or the call has itself goes before."""
    return replace(last, extra={**extra, **last.extra})
