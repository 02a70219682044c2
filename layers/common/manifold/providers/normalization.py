"""A conversation for providers that are stricter than OpenAI: no empty turns, and the sides alternate.

Empty turns are left out. Where a provider wants the sides to alternate, its adapter then joins neighbours of one side.
"""

from collections.abc import Sequence

from manifold.providers.content_parts import Text, invalid_value, is_blank
from manifold.providers.conversation import AssistantTurn, ResultTurn, SystemTurn, Turn, UserTurn, turns
from manifold.providers.tool_call_ids import IdRule, ToolCallIds

PLACEHOLDER = "."
"""The text of a user's turn that must be there, but is empty."""


def normalized_turns(messages: object, rule: IdRule) -> list[Turn]:
    """The turns that are not empty, with tool call ids that fit the rule. The last one is the user's or a result.

    System text that comes after the assistant's last turn becomes a user's turn. `InvalidRequest` names what has not
    OpenAI's shape, or says that all messages are empty.
    """
    conversation = [_trimmed(turn) for turn in with_fitting_ids(turns(messages), rule)]
    filled = [turn for turn in conversation if not _is_empty(turn)]
    if not filled:
        raise invalid_value("messages", "must say something: every message is empty")
    if len(filled) < len(conversation) and _ends_with_empty_user(conversation):
        filled.append(_placeholder(conversation[-1].path))
    return _with_prompt(filled)


def with_fitting_ids(conversation: Sequence[Turn], rule: IdRule) -> list[Turn]:
    """The turns with ids of tool calls that the provider takes."""
    old = [call_id for turn in conversation for call_id in _ids(turn)]
    if not old:
        return list(conversation)
    ids = ToolCallIds(rule, old)
    return [_with_ids(turn, ids) for turn in conversation]


def user_first(conversation: Sequence[Turn]) -> list[Turn]:
    """The turns but the system's. If the assistant begins, a user's placeholder goes before."""
    spoken: list[Turn] = [turn for turn in conversation if not isinstance(turn, SystemTurn)]
    return [_placeholder(spoken[0].path), *spoken] if isinstance(spoken[0], AssistantTurn) else spoken


def without_trailing_space(conversation: Sequence[Turn]) -> list[Turn]:
    """The turns, without white space at the end of the last one if that is the assistant's, for the model to go on."""
    *before, last = conversation
    if not isinstance(last, AssistantTurn) or not last.parts:
        return list(conversation)
    *parts, end = last.parts
    if not end.text[-1:].isspace():
        return list(conversation)
    return [*before, last._replace(parts=(*parts, end._replace(text=end.text.rstrip())))]


def with_marks_on_parts(conversation: Sequence[Turn]) -> list[Turn]:
    """The turns with each message's own mark (`cache_control`) on its last part or call, where providers want it."""
    return [_with_mark_on_last(turn) for turn in conversation]


def _with_prompt(filled: list[Turn]) -> list[Turn]:
    """The turns. If system text alone follows the assistant's last turn, it becomes the user's."""
    spoken = [turn for turn in filled if not isinstance(turn, SystemTurn)]
    if not isinstance(filled[-1], SystemTurn) or (spoken and not isinstance(spoken[-1], AssistantTurn)):
        return filled
    last = filled.pop()
    filled.append(UserTurn(last.parts, last.path, last.extra))
    return filled


def _placeholder(path: str) -> UserTurn:
    return UserTurn((Text(PLACEHOLDER, path, {}),), path)


def _ends_with_empty_user(conversation: Sequence[Turn]) -> bool:
    """Whether only empty turns of users follow the assistant. Without one, the model would continue its own text."""
    spoken = [turn for turn in conversation if not isinstance(turn, SystemTurn)]
    filled = [index for index, turn in enumerate(spoken) if not _is_empty(turn)]
    if not filled or not isinstance(spoken[filled[-1]], AssistantTurn):
        return False
    return any(isinstance(turn, UserTurn) for turn in spoken[filled[-1] :])


def _is_empty(turn: Turn) -> bool:
    """A result is never empty: it says that the call was made. An assistant's turn of thoughts alone is."""
    return not (isinstance(turn, ResultTurn) or turn.parts or (isinstance(turn, AssistantTurn) and turn.calls))


def _trimmed(turn: Turn) -> Turn:
    if not any(map(is_blank, turn.parts)):
        return turn
    if isinstance(turn, UserTurn | ResultTurn):
        return turn._replace(parts=tuple(part for part in turn.parts if not is_blank(part)))
    return turn._replace(parts=tuple(part for part in turn.parts if not is_blank(part)))


def _ids(turn: Turn) -> list[str]:
    if isinstance(turn, AssistantTurn):
        return [call.id for call in turn.calls]
    return [turn.call_id] if isinstance(turn, ResultTurn) else []


def _with_ids(turn: Turn, ids: ToolCallIds) -> Turn:
    if isinstance(turn, AssistantTurn) and turn.calls:
        new_ids = ids.calls([call.id for call in turn.calls])
        calls = tuple(call._replace(id=new_id) for call, new_id in zip(turn.calls, new_ids, strict=True))
        return turn._replace(calls=calls)
    return turn._replace(call_id=ids.result(turn.call_id)) if isinstance(turn, ResultTurn) else turn


def _with_mark_on_last(turn: Turn) -> Turn:
    """The turn; the members of its last part or call win."""
    if not turn.extra:
        return turn
    match turn:
        case AssistantTurn(calls=(*calls, call)):
            return turn._replace(calls=(*calls, call._replace(extra={**turn.extra, **call.extra})))
        case AssistantTurn(parts=(*texts, text)) | SystemTurn(parts=(*texts, text)):
            return turn._replace(parts=(*texts, text._replace(extra={**turn.extra, **text.extra})))
        case UserTurn(parts=(*parts, part)):
            return turn._replace(parts=(*parts, part._replace(extra={**turn.extra, **part.extra})))
    return turn
