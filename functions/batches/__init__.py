"""Batches: the API (`app`), and the engine that moves each batch on (`worker`, `poller`).

`catalog` creates and reads batches, `admission` holds them to the limits of their owners. `engine` takes the steps of
batches and their shards one by one: `planning`, with `input_errors` and `plan`; `submission`, with `selection` and
`rooms`; `polling`; `settlement`. `cancellation` has all of a cancel, `termination` the end without the provider. The
results of a job are stored by `functions/files/transfers/results.py`. `settlement` then registers them as files and
ends the batch, or has them joined by `functions/files/transfers/result_join.py`.
"""
