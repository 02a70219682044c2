"""Checks of deployments beyond types: problems, which are errors, and warnings."""

import re
from collections.abc import Iterable, Iterator

from manifold.config.deployments import Deployment
from manifold.config.document import Document
from manifold.config.router_settings import FALLBACKS_BY_GROUP, RouterSettings
from manifold.config.settings import PlainText, Setting

CREDENTIALS = frozenset({"api_key", "aws_secret_access_key", "aws_session_token", "vertex_credentials"})

_BUCKET = (re.compile(r"(?!\w+://)"), "the bucket's name, without s3:// or gs://")
_NAME = (re.compile(r"[^/\s]+$"), "a name alone, without a path")
FORMS = {
    "account_id": _NAME,
    "aws_batch_role_arn": (re.compile("arn:"), "the ARN of a role"),
    "gcs_bucket_name": _BUCKET,
    "s3_bucket_name": _BUCKET,
    "s3_output_bucket_name": _BUCKET,
    "vertex_credentials": (re.compile(r"\s*\{"), "the JSON text itself, and not a path: put it into the secret"),
    "vertex_location": _NAME,
    "vertex_project": _NAME,
}
"""The form of each setting of batches that is easily mistaken, and its words. Values by name are not checked."""


def problems(deployments: Iterable[Deployment]) -> list[str]:
    """Each problem with its path in the file; empty if the deployments are valid."""
    deployments = list(deployments)
    each = [problem for one in deployments for problem in (*_address(one), *_signature(one), *_batches(one))]
    return [*each, *_rescues(deployments), *_equal_ids(deployments)]


def unknown_groups(deployments: Iterable[Deployment], settings: RouterSettings) -> Iterator[str]:
    """Fallbacks from or to model groups that `model_list` lacks."""
    known = {one.group for one in deployments} | {"*"}
    named = {"default_fallbacks": set(settings.default_fallbacks)}
    for setting in FALLBACKS_BY_GROUP:
        named[setting] = {name for group, others in getattr(settings, setting).items() for name in (group, *others)}
    for setting, names in named.items():
        for name in sorted(names - known):
            yield f"{setting}: there is no model group {name!r} in model_list"


def repeated_groups(written: Document) -> Iterator[str]:
    """Groups that have several entries in one list of fallbacks, of which the last alone would count."""
    for section in ("litellm_settings", "router_settings"):
        for setting in FALLBACKS_BY_GROUP:
            known = set[str]()
            for index, entry in enumerate(getattr(getattr(written, section), setting) or ()):
                for group in sorted(known & entry.keys()):
                    yield f"{section}.{setting}[{index}]: {group!r} is written twice"
                known |= entry.keys()


def warnings(deployments: Iterable[Deployment], master_key: Setting) -> Iterator[str]:
    """Warnings of keys in the file, and of deployments without an address."""
    for one in deployments:
        for path, setting in one.settings():
            if isinstance(setting, PlainText) and path.rpartition(".")[2] in CREDENTIALS:
                yield _written_out(path)
        if one.api_base is None and one.aws is None and (one.profile.needs_key or one.mode != "batch"):
            yield (
                f"{one.path}.litellm_params.api_base is missing, and no address of {one.provider!r} is known: "
                "nothing is sent to this deployment"
            )
        if not one.runs_batches and (one.retry_failed_lines or one.limits != one.profile.limits):
            yield f"{one.path} limits or retries batches, which it does not run: set model_info.mode to batch"
        if one.rescue_before_expiry is not None and (not one.runs_batches or one.execution == "gateway"):
            yield f"{one.path}.model_info.rescue_before_expiry is for batches that a provider runs, which this has not"
    if isinstance(master_key, PlainText):
        yield _written_out("general_settings.master_key")


def odd_names(deployments: Iterable[Deployment]) -> Iterator[str]:
    """Warnings of group names with `*` or `,`, which LiteLLM or a request's `model` would interpret."""
    for one in deployments:
        if "*" in one.group:
            yield f"{one.path}.model_name is no wildcard: clients must send {one.group!r} itself as the model"
        if "," in one.group:
            yield (
                f"{one.path}.model_name has a comma, which divides the names of several models: "
                f"clients of chat completions must send a list that has {one.group!r}"
            )


def _written_out(path: str) -> str:
    return f"{path} holds the key itself: write os.environ/NAME, and put the key into the secret"


def _address(one: Deployment) -> Iterator[str]:
    options = {name: one.options.get(name) for name in ("s3_endpoint_url", "gcs_endpoint_url")}
    for name, address in {"api_base": one.api_base, **options}.items():
        if isinstance(address, PlainText) and not address.text.startswith(("http://", "https://")):
            yield f"{one.path}.litellm_params.{name}: must start with https:// or http://"


def _signature(one: Deployment) -> Iterator[str]:
    """AWS's access keys have an id and a secret; temporary ones have a session token, too."""
    if one.aws is None:
        return
    pair = {"aws_access_key_id": one.aws.access_key_id, "aws_secret_access_key": one.aws.secret_access_key}
    missing = [name for name, setting in pair.items() if setting is None]
    if one.aws.session_token is not None or len(missing) == 1:
        yield from (f"{one.path}.litellm_params.{name}: is missing: it belongs to the others" for name in missing)


def _batches(one: Deployment) -> Iterator[str]:
    if one.execution == "gateway":
        yield from _execution(one)
        return
    if one.mode != "batch":
        return
    for name in ("api_base", "api_key") if one.profile.needs_key else ():
        if getattr(one, name) is None:
            yield f"{one.path}.litellm_params.{name}: is missing, and no default is known for {one.provider!r}"
    for name in one.profile.needs:
        if name not in one.options:
            yield f"{one.path}.litellm_params.{name}: is missing, and batches of {one.provider!r} need it"
    yield from _forms(one)


def _execution(one: Deployment) -> Iterator[str]:
    """What the gateway needs to run the batches of a deployment: an address, and an API for single requests."""
    if not one.profile.completions:
        yield f"{one.path}.model_info.batch_execution: the gateway cannot call single requests of {one.provider!r}"
    elif one.api_base is None and one.aws is None:
        yield f"{one.path}.litellm_params.api_base: is missing, and no default is known for {one.provider!r}"


def _rescues(deployments: Iterable[Deployment]) -> Iterator[str]:
    """What the gateway needs to run what a provider may not end in time: a deployment that it can call."""
    callable_endpoints: dict[str, frozenset[str]] = {}
    for one in deployments:
        callable_endpoints[one.group] = callable_endpoints.get(one.group, frozenset()) | one.completion_endpoints
    for one in deployments:
        if one.rescue_before_expiry is None or one.mode != "batch" or one.execution == "gateway":
            continue
        if not one.batch_endpoints & callable_endpoints[one.group]:
            yield (
                f"{one.path}.model_info.rescue_before_expiry: the gateway can call single requests of no deployment of "
                f"{one.group!r}: add one that it can call"
            )


def _forms(one: Deployment) -> Iterator[str]:
    for name, (form, what) in FORMS.items():
        setting = one.options.get(name)
        if isinstance(setting, PlainText) and not form.match(setting.text):
            yield f"{one.path}.litellm_params.{name}: must be {what}"


def _equal_ids(deployments: Iterable[Deployment]) -> Iterator[str]:
    first: dict[str, Deployment] = {}
    for one in deployments:
        other = first.setdefault(one.id, one)
        if other is not one:
            yield (
                f"{other.path} and {one.path} have the same deployment id, {one.id!r}: "
                "give each a model_info.id of its own"
            )
