"""The gateway's own execution of batches: for providers that have completions and no batch API.

`GatewayBatches` is its dialect, a `BatchProvider` like those of the providers: a job is chunks of lines, as rows and
messages, which `batches.executor` runs. docs/decisions/0033-own-execution.md

    batches     the dialect
    chunking    how a job is cut into chunks: pure
    parts       where a chunk's results are, and which of its requests they answer
    pace        how many calls the workers of one deployment may begin: pure
"""
