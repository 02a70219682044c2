"""Batches: the API (`app`), and the engine that moves each batch on (`worker`, `poller`).

`catalog` creates and reads batches. `engine` takes their steps one by one: `submission`, with `input_errors` and
`selection`; `polling`; `settlement`. `cancellation` has all of a cancel, `termination` the end without the provider.
The results of a batch are stored by `functions/files/transfers/results.py`. `settlement` then registers them as files
and ends the batch.
"""
