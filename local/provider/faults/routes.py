"""The routes of all dialects by name: faults and the log say `files.create` whatever the provider's path is."""

import re

VERSION = re.compile(r"(/api)?/v\d+(beta\d*)?(?=/)")
BATCHES = r"(/batches|/messages/batches|/batch/jobs)"
"""The batches of OpenAI, xAI and OpenRouter, of Anthropic, of Mistral."""
ROUTES = {
    ("POST", r"/files"): "files.create",
    ("GET", r"/files"): "files.list",
    ("GET", r"/files/[^/:]+"): "files.retrieve",
    ("GET", r"/files/[^/]+/content"): "files.content",
    ("DELETE", r"/files/[^/]+"): "files.delete",
    ("POST", BATCHES): "batches.create",
    ("GET", BATCHES): "batches.list",
    ("GET", rf"{BATCHES}/[^/]+"): "batches.retrieve",
    ("DELETE", rf"{BATCHES}/[^/]+"): "batches.delete",
    ("POST", rf"{BATCHES}/[^/]+(/|:)cancel"): "batches.cancel",
    ("GET", rf"{BATCHES}/[^/]+/results"): "batches.results",
    ("POST", r"(/deployments/[^/]+)?/chat/completions"): "chat.create",
    ("POST", r"(/deployments/[^/]+)?/completions"): "completions.create",
    ("POST", r"(/deployments/[^/]+)?/embeddings"): "embeddings.create",
    ("POST", r"/responses"): "responses.create",
    ("GET", r"/models"): "models.list",
    ("POST", r"/messages"): "chat.create",
    ("POST", r"/chat"): "chat.create",
    ("POST", r"/models/[^/]+:(generateContent|streamGenerateContent)"): "chat.create",
    ("POST", r"/models/[^/]+:(batchGenerateContent|asyncBatchEmbedContent)"): "batches.create",
    ("POST", r"/upload/v1beta/files"): "files.create",
    ("PUT", r"/upload/v1beta/files"): "files.create",
    ("GET", r"(/download/v1beta)?/files/[^/]+:download"): "files.content",
    ("POST", r"/projects/[^/]+/locations/[^/]+/batchPredictionJobs"): "batches.create",
    ("GET", r"/projects/[^/]+/locations/[^/]+/batchPredictionJobs"): "batches.list",
    ("GET", r"/projects/[^/]+/locations/[^/]+/batchPredictionJobs/[^/]+"): "batches.retrieve",
    ("POST", r"/projects/[^/]+/locations/[^/]+/batchPredictionJobs/[^/]+:cancel"): "batches.cancel",
    ("DELETE", r"/projects/[^/]+/locations/[^/]+/batchPredictionJobs/[^/]+"): "batches.delete",
    ("POST", r"/model-invocation-job"): "batches.create",
    ("GET", r"/model-invocation-jobs"): "batches.list",
    ("GET", r"/model-invocation-job/.+"): "batches.retrieve",
    ("POST", r"/model-invocation-job/.+/stop"): "batches.cancel",
    ("PUT", r"/s3/[^/]+/.+"): "files.create",
    ("GET", r"/s3/[^/]+/?"): "files.list",
    ("HEAD", r"/s3/[^/]+/.+"): "files.retrieve",
    ("GET", r"/s3/[^/]+/.+"): "files.content",
    ("DELETE", r"/s3/[^/]+/.+"): "files.delete",
    ("POST", r"/upload/storage/v1/b/[^/]+/o"): "files.start",
    ("PUT", r"/upload/storage/v1/b/[^/]+/o"): "files.create",
    ("DELETE", r"/upload/storage/v1/b/[^/]+/o"): "files.abandon",
    ("GET", r"/storage/v1/b/[^/]+/o"): "files.list",
    ("GET", r"/storage/v1/b/[^/]+/o/.+"): "files.content",
    ("DELETE", r"/storage/v1/b/[^/]+/o/.+"): "files.delete",
    ("PUT", r"/objects/.+"): "objects.put",
    ("GET", r"/objects/.+"): "objects.get",
    ("POST", r"/files/[^/]+/preprocess"): "files.process",
    ("POST", r"/files/upload"): "files.create",
    ("POST", r"/datasets"): "files.create",
    ("GET", r"/datasets"): "files.list",
    ("GET", r"/datasets/[^/]+"): "files.retrieve",
    ("DELETE", r"/datasets/[^/]+"): "files.delete",
    ("POST", r"/accounts/[^/]+/datasets"): "files.start",
    ("GET", r"/accounts/[^/]+/datasets"): "files.list",
    ("POST", r"/accounts/[^/]+/datasets/[^/]+:upload"): "files.create",
    ("POST", r"/accounts/[^/]+/datasets/[^/]+:getUploadEndpoint"): "files.locate",
    ("POST", r"/accounts/[^/]+/datasets/[^/]+:validateUpload"): "files.process",
    ("GET", r"/accounts/[^/]+/datasets/[^/]+:getDownloadEndpoint"): "files.content",
    ("GET", r"/accounts/[^/]+/datasets/[^/]+"): "files.retrieve",
    ("DELETE", r"/accounts/[^/]+/datasets/[^/]+"): "files.delete",
    ("POST", r"/accounts/[^/]+/batchInferenceJobs"): "batches.create",
    ("GET", r"/accounts/[^/]+/batchInferenceJobs"): "batches.list",
    ("GET", r"/accounts/[^/]+/batchInferenceJobs/[^/]+"): "batches.retrieve",
    ("DELETE", r"/accounts/[^/]+/batchInferenceJobs/[^/]+"): "batches.delete",
    ("POST", r"/token|/sts/v1/token|/iamcredentials/.+"): "tokens.create",
    ("POST", r"/model/.+/converse(-stream)?"): "chat.create",
}


def route_name(method: str, path: str) -> str:
    """The name of the route; `path` is that after the account and the dialect, with a version or without. `unknown` for
    any other path."""
    unversioned = VERSION.sub("", path, count=1) if VERSION.match(path) else path
    for (verb, pattern), name in ROUTES.items():
        if verb == method and re.fullmatch(pattern, unversioned):
            return name
    return "unknown"
