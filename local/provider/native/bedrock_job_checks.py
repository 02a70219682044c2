"""What Bedrock takes for a job, as strict as botocore's own description of it, and as its documentation adds to it.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_CreateModelInvocationJob.html
"""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cache
from typing import Any

from botocore.loaders import Loader
from botocore.model import ListShape, ServiceModel, Shape, StructureShape
from botocore.validate import ParamValidator

from local.provider.accounts import BEDROCK_ACCOUNT, BEDROCK_ROLE, Account
from local.provider.refusal import Refusal

OBJECT_URI = re.compile(r"s3://(?P<bucket>[a-z0-9][-.a-z0-9]{1,61}[a-z0-9])/(?P<key>[-!_*'().a-zA-Z0-9/]*)")
LISTING = frozenset(
    {
        "submitTimeAfter",
        "submitTimeBefore",
        "statusEquals",
        "nameContains",
        "maxResults",
        "nextToken",
        "sortBy",
        "sortOrder",
    }
)


def check_shape(asked: Mapping[str, Any]) -> None:
    shape = _shapes().shape_for("CreateModelInvocationJobRequest")
    report = ParamValidator().validate(asked, shape)
    if report.has_errors():
        raise Refusal(400, "ValidationException", report.generate_report())
    for problem in _problems(asked, shape, ""):
        raise Refusal(400, "ValidationException", f"1 validation error detected: {problem}")


def check_role(role: str) -> None:
    if f":{BEDROCK_ACCOUNT}:" not in role:
        raise Refusal(403, "AccessDeniedException", "Cross-account pass role is not allowed.")
    if role != BEDROCK_ROLE:
        words = "Could not assume provided IAM role. Please verify that the role and/or role policies are correct"
        raise Refusal(400, "ValidationException", words)


def location(account: Account, uri: str) -> tuple[str, str]:
    """Bucket and key."""
    match = OBJECT_URI.fullmatch(uri)
    if match is None:
        raise Refusal(400, "ValidationException", f"The provided S3 URI {uri} is not valid.")
    if match["bucket"] not in account.buckets:
        words = f"Could not access the S3 bucket {match['bucket']}. Check the permissions of the role, and the region."
        raise Refusal(400, "ValidationException", words)
    return match["bucket"], match["key"]


def check_listing(query: Mapping[str, str]) -> None:
    if query.keys() - LISTING:
        raise Refusal(400, "ValidationException", f"Unknown parameters: {sorted(query.keys() - LISTING)}")
    shape = _shapes().shape_for("ListModelInvocationJobsRequest")
    typed: dict[str, Any] = dict(query)
    for name in query:
        if name.startswith("submitTime"):
            del typed[name]
        if name == "maxResults":
            typed[name] = int(query[name]) if query[name].isdecimal() else 0
    for problem in _problems(typed, shape, ""):
        raise Refusal(400, "ValidationException", f"1 validation error detected: {problem}")


def place(token: str | None) -> int:
    """Where a page begins."""
    if token is None:
        return 0
    match = re.fullmatch(r"page-(\d+)", token)
    if match is None:
        raise Refusal(400, "ValidationException", "The nextToken is invalid.")
    return int(match[1])


def moment(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError as error:
        raise Refusal(400, "ValidationException", f"Invalid timestamp: {text}") from error


@cache
def _shapes() -> ServiceModel:
    return ServiceModel(Loader().load_service_model("bedrock", "service-2"))


def _problems(value: Any, shape: Shape, at: str) -> Iterator[str]:
    """What the description forbids and botocore does not check: unknown members, patterns, most and enums."""
    if isinstance(shape, StructureShape):
        for name, inner in value.items():
            if name not in shape.members:
                yield f"Unknown member '{at}{name}'"
            else:
                yield from _problems(inner, shape.members[name], f"{at}{name}.")
        return
    yield from _wrong_value(value, shape.metadata, at.rstrip("."))
    if isinstance(shape, ListShape):
        for inner in value:
            yield from _problems(inner, shape.member, at)


def _wrong_value(value: Any, rules: Mapping[str, Any], at: str) -> Iterator[str]:
    words = f"Value at '{at}' failed to satisfy constraint"
    size = value if isinstance(value, int) else len(value)
    if not rules.get("min", size) <= size <= rules.get("max", size):
        yield f"{words}: Member must be within {rules.get('min')} and {rules.get('max')}"
    if "enum" in rules and value not in rules["enum"]:
        yield f"{words}: Member must satisfy enum value set: {rules['enum']}"
    if "pattern" in rules and not re.fullmatch(rules["pattern"], value):
        yield f"{words}: Member must satisfy regular expression pattern: {rules['pattern']}"
