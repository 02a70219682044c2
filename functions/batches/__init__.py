"""Batches: the API (`app`), and the engine that moves each batch on (`worker`, `poller`).

The results of a batch are stored by `functions/files/transfers/results.py`. `settlement` then registers them as files
and ends the batch.
"""
