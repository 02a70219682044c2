"""Batches at Bedrock: who may do what, if the stack has a bucket for them."""

from typing import Any

from tests.infra.template import Template

BUCKET = "arn:${AWS::Partition}:s3:::${BedrockBatchBucket}"
CALLERS = ("FilesWorker", "BatchesWorker", "BatchesPoller")
"""The functions that call the providers of batches."""


def granted(policy: Any) -> dict[str, Any]:
    """The resource of each action."""
    grants: dict[str, Any] = {}
    for statement in policy["Statement"]:
        actions = statement["Action"]
        grants |= dict.fromkeys([actions] if isinstance(actions, str) else actions, statement["Resource"])
    return grants


def test_without_a_bucket_there_is_nothing_of_it(template: Template) -> None:
    for name in ("BedrockBatchRole", "BedrockBatchPolicy"):
        assert template.resources[name]["Condition"] == "BedrockRunsBatches"


def test_bedrock_alone_takes_its_role_and_only_for_jobs_of_this_account(template: Template) -> None:
    role = template.resources["BedrockBatchRole"]["Properties"]
    (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Principal"] == {"Service": "bedrock.amazonaws.com"}
    assert trust["Condition"] == {
        "StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}},
        "ArnLike": {
            "aws:SourceArn": {"Fn::Sub": "arn:${AWS::Partition}:bedrock:*:${AWS::AccountId}:model-invocation-job/*"}
        },
    }


def test_bedrocks_role_uses_the_bucket_and_calls_models(template: Template) -> None:
    (policy,) = template.resources["BedrockBatchRole"]["Properties"]["Policies"]
    grants = granted(policy["PolicyDocument"])
    assert grants.keys() == {"s3:ListBucket", "s3:GetObject", "s3:PutObject", "bedrock:InvokeModel"}
    assert grants["s3:ListBucket"] == {"Fn::Sub": BUCKET}
    assert grants["s3:GetObject"] == grants["s3:PutObject"] == {"Fn::Sub": f"{BUCKET}/*"}


def test_the_functions_that_call_providers_may_run_jobs(template: Template) -> None:
    policy = template.resources["BedrockBatchPolicy"]["Properties"]
    roles = [template.functions()[function]["Role"]["Fn::GetAtt"][0] for function in CALLERS]
    assert policy["Roles"] == [{"Ref": role} for role in roles]
    grants = granted(policy["PolicyDocument"])
    jobs = {f"bedrock:{verb}ModelInvocationJob{'s' * (verb == 'List')}" for verb in ("Create", "Get", "List", "Stop")}
    objects = {"s3:GetObject", "s3:PutObject", "s3:DeleteObject"}
    assert grants.keys() == jobs | objects | {"s3:ListBucket", "iam:PassRole"}
    assert grants["s3:ListBucket"] == {"Fn::Sub": BUCKET}
    assert [action for action, resource in grants.items() if resource == "*"] == ["bedrock:ListModelInvocationJobs"]
    assert all(grants[action] == {"Fn::Sub": f"{BUCKET}/*"} for action in objects)


def test_they_hand_on_no_role_but_bedrocks_and_only_to_bedrock(template: Template) -> None:
    statements = template.resources["BedrockBatchPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    (passing,) = [one for one in statements if one["Action"] == "iam:PassRole"]
    assert passing["Resource"] == {"Fn::GetAtt": ["BedrockBatchRole", "Arn"]}
    assert passing["Condition"] == {"StringEquals": {"iam:PassedToService": "bedrock.amazonaws.com"}}
