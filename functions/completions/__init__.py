"""`/chat/completions`, `/embeddings` and `/completions`: one call, or many at once.

`app` translates a request, `request` and `plan` say which calls it asks for, `scope` opens what they need,
`request_calls` and `streams` make them. How one call finds a deployment, and what follows a failure, is in
`manifold.dispatch`.
"""
