"""`python -m manifold.runtime`, by `AWS_LAMBDA_EXEC_WRAPPER`: runs the app beside the handler that `_HANDLER` names."""

import asyncio
import importlib
import sys

from manifold.runtime.api import RuntimeApi, RuntimeApiError
from manifold.runtime.environment import FunctionVariables
from manifold.runtime.loop import App, serve


def main() -> int:
    function = FunctionVariables.read()
    api = RuntimeApi(function.runtime_api)
    with asyncio.Runner() as runner:
        try:
            app = _app(function.handler)
        except BaseException as error:
            api.fail_init(error)
            raise
        try:
            serve(app, api, runner, function)
        except RuntimeApiError as error:
            print(error, file=sys.stderr)
            return 1


def _app(handler: str) -> App:
    """The `app` of the module that has the handler: `completions.app.handler`."""
    app: App = importlib.import_module(handler.rpartition(".")[0]).app
    return app


if __name__ == "__main__":
    sys.exit(main())
