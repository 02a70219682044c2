"""The variables by which Lambda and its runtime tell each other things; those of the gateway are in `manifold.config`.

https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html#configuration-envvars-runtime
"""

import os
from dataclasses import dataclass

TRACE = "_X_AMZN_TRACE_ID"


@dataclass(frozen=True, slots=True)
class FunctionVariables:
    """What Lambda says of the function."""

    runtime_api: str
    """The address of the Runtime API."""
    handler: str
    name: str
    version: str
    memory: str
    """MB."""
    log_group: str
    log_stream: str
    initialization: str
    """`on-demand`, `provisioned-concurrency` or `snap-start`."""

    @classmethod
    def read(cls) -> "FunctionVariables":
        """Those of the process."""
        named = os.environ.get
        return cls(
            os.environ["AWS_LAMBDA_RUNTIME_API"],
            os.environ["_HANDLER"],
            named("AWS_LAMBDA_FUNCTION_NAME", ""),
            named("AWS_LAMBDA_FUNCTION_VERSION", ""),
            named("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "0"),
            named("AWS_LAMBDA_LOG_GROUP_NAME", ""),
            named("AWS_LAMBDA_LOG_STREAM_NAME", ""),
            named("AWS_LAMBDA_INITIALIZATION_TYPE", ""),
        )


def set_trace(trace_id: str | None) -> None:
    """Tell AWS's libraries the trace of the invocation."""
    if trace_id is None:
        os.environ.pop(TRACE, None)
    else:
        os.environ[TRACE] = trace_id
