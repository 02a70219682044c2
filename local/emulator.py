"""AWS on this machine, emulated by MiniStack, which enforces the functions' roles (`AUTH`)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from local.errors import StackError
from local.places import ROOT, tool
from local.processes import Service, free_port

REGION = "us-east-1"
_KEY = "test"
_SECONDS = 30.0


def credentials() -> dict[str, str]:
    """The environment of a command that calls the emulator, without the user's own AWS settings."""
    return {
        "AWS_ACCESS_KEY_ID": _KEY,
        "AWS_SECRET_ACCESS_KEY": _KEY,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@dataclass(frozen=True, slots=True)
class Emulator:
    """A running emulator."""

    url: str

    def client(self, service: str, session: Mapping[str, str] | None = None) -> Any:
        """A boto3 client as the account's root, or with the `Credentials` of an assumed role."""
        as_whom = session or {"AccessKeyId": _KEY, "SecretAccessKey": _KEY}
        return boto3.client(
            service,  # type: ignore[call-overload]
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=as_whom["AccessKeyId"],
            aws_secret_access_key=as_whom["SecretAccessKey"],
            aws_session_token=as_whom.get("SessionToken"),
            config=Config(read_timeout=120, retries={"total_max_attempts": 1}),
        )

    def outputs(self, stack: str) -> dict[str, str]:
        """The outputs of the deployed stack."""
        (description,) = self.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
        return {output["OutputKey"]: output["OutputValue"] for output in description["Outputs"]}

    def create_secret(self, name: str, values: Mapping[str, str]) -> str:
        """Create the secret and return its ARN."""
        created = self.client("secretsmanager").create_secret(Name=name, SecretString=json.dumps(dict(values)))
        arn: str = created["ARN"]
        return arn

    def invoke(self, function: str, event: object) -> Any:
        """Invoke a function and return its answer. Raises a `StackError` if the function crashes."""
        answer = self.client("lambda").invoke(FunctionName=function, Payload=json.dumps(event))
        payload = json.loads(answer["Payload"].read() or b"null")
        if "FunctionError" in answer:
            raise StackError(f"{function} failed: {payload}")
        return payload

    def logs(self, group_prefix: str = "") -> str:
        """The functions' logs, by log group."""
        client = self.client("logs")
        shown = []
        for group in client.describe_log_groups()["logGroups"]:
            if group["logGroupName"].startswith(group_prefix):
                events = client.filter_log_events(logGroupName=group["logGroupName"])["events"]
                shown += [f"== {group['logGroupName']}", *(event["message"].rstrip() for event in events)]
        return "\n".join(shown)


def start(service: Service, state: Path, host: str) -> Emulator:
    """Start MiniStack on a free port of that address; its state is kept below `state`."""
    port = free_port(host)
    scratch = state / "tmp"
    scratch.mkdir(parents=True, exist_ok=True)
    environment = {
        **credentials(),
        "PATH": "/usr/bin:/bin",
        "HOME": str(state),
        "TMPDIR": str(scratch),
        "AUTH": "true",
        "BIND_HOST": host,
        "MINISTACK_HOST": host,
        "GATEWAY_PORT": str(port),
        "IOT_MTLS_ENABLED": "0",  # else it listens on 8883
        "LAMBDA_WARM_TTL_SECONDS": "3600",
        "STATE_DIR": str(state),
        "S3_DATA_DIR": str(state / "s3"),
    }
    service.start([tool("ministack", "ministack")], environment, ROOT)
    emulator = Emulator(f"http://{host}:{port}")
    service.await_answer(f"{emulator.url}/_ministack/health", _SECONDS)
    return emulator
