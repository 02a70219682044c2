"""What `batches.executor` does: the requests of a chunk, one call each, under the chunk's lease.

chunk_execution   a message: claims a chunk, runs it, writes how it ended
chunk_run         one run: its runners, its claims, and when it stops
line_calls        one request: a call, and what it means
backlog           the requests without a result: which is called next, and how often it failed
permits           how many calls may begin now
result_writer     answers on their way to S3
"""
