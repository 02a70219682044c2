"""The filters of Vertex AI's list of jobs.

https://docs.cloud.google.com/gemini-enterprise-agent-platform/reference/rest/v1/projects.locations.batchPredictionJobs/list
"""

import fnmatch
import re
from collections.abc import Mapping

from local.provider.refusal import Refusal

TERM = re.compile(
    r"(?P<negated>NOT +)?(?P<field>[A-Za-z_]+(?:\.[a-z0-9_-]+)?) *(?P<operator>!=|<=|>=|=|<|>|:) *"
    r'(?P<quote>"?)(?P<value>[^"]*)(?P=quote)'
)
NAMES = {"display_name": "displayName", "create_time": "createTime"}
OPERATORS = {"displayName": ("=", "!=", ":"), "state": ("=", "!="), "createTime": ("=", "!=", "<", "<=", ">", ">=")}
LABEL_OPERATORS = ("=", ":")


def matches(text: str, fields: Mapping[str, str]) -> bool:
    """Whether a job with these fields is listed; labels are `labels.KEY`. Raises a `Refusal` for a filter that is not
    understood. `AND` binds more than `OR`."""
    return any(
        all(_holds(term, fields) for term in re.split(r" +AND +", part)) for part in re.split(r" +OR +", text.strip())
    )


def _holds(term: str, fields: Mapping[str, str]) -> bool:
    match = TERM.fullmatch(term)
    if match is None:
        raise Refusal(400, None, f"Invalid filter: {term}")
    name, operator, value = NAMES.get(match["field"], match["field"]), match["operator"], match["value"]
    allowed = LABEL_OPERATORS if name.startswith("labels.") else OPERATORS.get(name, ())
    if operator not in allowed:
        raise Refusal(400, None, f"Invalid filter: {name} does not support {operator}")
    return _compare(fields.get(name), operator, value) != bool(match["negated"])


def _compare(field: str | None, operator: str, value: str) -> bool:
    if operator == ":":
        return field is not None and fnmatch.fnmatchcase(field, value)
    if operator in ("=", "!="):
        return (field == value) == (operator == "=")
    given = field or ""
    return {"<": given < value, "<=": given <= value, ">": given > value, ">=": given >= value}[operator]
