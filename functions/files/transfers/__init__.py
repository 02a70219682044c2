"""The worker of the transfers queue, which moves bytes between S3 and the providers.

It uploads a file's lines to a deployment (`replication`), stores the results of a batch's job (`results`), joins large
uploads (`joining`), and deletes what is no longer needed (`purge`, `orphans`). Each transfer holds a `lease`, and waits
after a failure as `retry_policy` says.
"""
