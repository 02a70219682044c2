"""The walkthrough against `sam local start-api`: the API in containers, the stack's queues and workers behind it."""

import os
import subprocess
import sys
from pathlib import Path

from local.places import ROOT
from local.running import Running
from tests.sam.containers import SamLocal


def test_the_walkthrough_runs_against_start_api(stack: Running, built: Path, directory: Path) -> None:
    secret = stack.aws.client("secretsmanager").describe_secret(SecretId="manifold")
    variables = {
        "MANIFOLD_SECRET_ARN": secret["ARN"],
        "MANIFOLD_BUCKET": stack.outputs["BucketName"],
        "MANIFOLD_CONTROL_QUEUE_URL": stack.outputs["ControlQueueUrl"],
        "MANIFOLD_TRANSFERS_QUEUE_URL": stack.outputs["TransfersQueueUrl"],
    }
    with SamLocal(built, stack.aws_url, variables, directory / "api").serving() as base_url:
        done = subprocess.run(
            [sys.executable, ROOT / "examples" / "batch_walkthrough.py"],
            env={**os.environ, **stack.environment(), "OPENAI_BASE_URL": base_url},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=300,
            text=True,
            check=False,
        )
    print(done.stdout)
    assert done.returncode == 0
    assert done.stdout.endswith("demo: ok\n")
