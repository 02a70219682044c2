"""The API of managed files: `/files` and `/uploads` (`app`), with one module for each use case.

`files.transfers` is the worker, which moves bytes between S3 and the providers. It also stores the results of a batch
(`transfers/results.py`).
"""
