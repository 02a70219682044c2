"""A runtime of our own for functions whose answers stream: Python's managed runtime sends an answer as a whole.

`AWS_LAMBDA_EXEC_WRAPPER` (`start`) starts it in place of Lambda's. It asks the Runtime API for one invocation after the
other, has the function's ASGI app answer it, and posts the answer as it comes.

    environment   what Lambda says by variables
    api           the Runtime API, over HTTP
    start_up      what comes before the first invocation, and around a snapshot
    stream        the answer to one invocation, in API Gateway's form of a stream
    loop          one invocation after the other, on one event loop
"""

STREAMED = "manifold.streamed"
"""The extension of ASGI by which an app knows that its answer leaves as it sends it, whatever its size."""
