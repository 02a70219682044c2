"""What `batches.executor` does: the requests of a chunk, one call each, under the chunk's lease.

chunk_execution   a message: claims a chunk, runs it, writes how it ended
chunk_run         one run: its runners, its claims, and when it stops
line_calls        one request: its calls, and what they mean
suspects          requests that failed, until it is known that the provider answers others
permits           how many calls may begin now
result_writer     answers on their way to S3
"""
