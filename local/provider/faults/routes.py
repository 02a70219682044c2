"""The routes of all dialects by name: faults and the log say `files.create` whatever the provider's path is."""

import re

ROUTES = {
    ("POST", r"/files"): "files.create",
    ("GET", r"/files"): "files.list",
    ("GET", r"/files/[^/]+"): "files.retrieve",
    ("GET", r"/files/[^/]+/content"): "files.content",
    ("DELETE", r"/files/[^/]+"): "files.delete",
    ("POST", r"/batches"): "batches.create",
    ("GET", r"/batches"): "batches.list",
    ("GET", r"/batches/[^/]+"): "batches.retrieve",
    ("POST", r"/batches/[^/]+(/|:)cancel"): "batches.cancel",
    ("GET", r"/batches/[^/]+/results"): "batches.results",
    ("POST", r"(/deployments/[^/]+)?/chat/completions"): "chat.create",
    ("POST", r"(/deployments/[^/]+)?/completions"): "completions.create",
    ("POST", r"(/deployments/[^/]+)?/embeddings"): "embeddings.create",
    ("POST", r"/v1/messages"): "chat.create",
    ("POST", r"/v2/chat"): "chat.create",
    ("POST", r"/v1beta/models/[^/]+:(generateContent|streamGenerateContent)"): "chat.create",
    ("PUT", r"/s3/[^/]+/.+"): "files.create",
    ("GET", r"/s3/[^/]+"): "files.list",
    ("HEAD", r"/s3/[^/]+/.+"): "files.retrieve",
    ("GET", r"/s3/[^/]+/.+"): "files.content",
    ("DELETE", r"/s3/[^/]+/.+"): "files.delete",
    ("POST", r"/upload/storage/v1/b/[^/]+/o"): "files.start",
    ("PUT", r"/upload/storage/v1/b/[^/]+/o"): "files.create",
    ("DELETE", r"/upload/storage/v1/b/[^/]+/o"): "files.abandon",
    ("GET", r"/storage/v1/b/[^/]+/o"): "files.list",
    ("GET", r"/storage/v1/b/[^/]+/o/.+"): "files.content",
    ("DELETE", r"/storage/v1/b/[^/]+/o/.+"): "files.delete",
    ("POST", r"/token|/sts/v1/token|/iamcredentials/.+"): "tokens.create",
    ("POST", r"/model/.+/converse(-stream)?"): "chat.create",
}


def route_name(method: str, path: str) -> str:
    """The name of the route; `path` is that after the account and the dialect. `unknown` for any other path."""
    for (verb, pattern), name in ROUTES.items():
        if verb == method and re.fullmatch(pattern, path):
            return name
    return "unknown"
