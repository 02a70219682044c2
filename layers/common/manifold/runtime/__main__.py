"""`python -m manifold.runtime`, by `AWS_LAMBDA_EXEC_WRAPPER`: runs the app beside the handler that `_HANDLER` names."""

import asyncio
import importlib
import sys
from types import ModuleType

from manifold.runtime.api import RuntimeApi, RuntimeApiError
from manifold.runtime.environment import FunctionVariables
from manifold.runtime.loop import serve
from manifold.runtime.start_up import start


def main() -> int:
    function = FunctionVariables.read()
    api = RuntimeApi(function.runtime_api)
    with asyncio.Runner() as runner:
        try:
            module = _module(function.handler)
            app = module.app
        except BaseException as error:
            api.fail_init(error)
            raise
        try:
            if hasattr(module, "lifecycle"):
                start(module.lifecycle, api, runner, function)
            serve(app, api, runner, function)
        except RuntimeApiError as error:
            print(error, file=sys.stderr)
            return 1


def _module(handler: str) -> ModuleType:
    """The module that has the handler: `completions.app.handler`."""
    return importlib.import_module(handler.rpartition(".")[0])


if __name__ == "__main__":
    sys.exit(main())
