"""The model groups that may run a file: those that the create names, else the one that its lines name."""

from collections.abc import Sequence

from manifold.access import Caller
from manifold.deployments import Deployments
from manifold.errors import InvalidRequest
from manifold.jsonl.report import Report
from manifold.schemas import FilePurpose

PARAM = "target_model_names"


class TargetGroups:
    """Finds the model groups of a caller's new file. `Creation`, `Uploads` and `Completion` call it.

    Raises `InvalidRequest` for a name that is no group or runs no batches, and `PermissionDenied` for a group that the
    caller may not use.
    """

    def __init__(self, deployments: Deployments, caller: Caller) -> None:
        self._deployments = deployments
        self._caller = caller

    def for_purpose(self, names: Sequence[str], purpose: FilePurpose) -> list[str]:
        """The groups that a create names for a file of this purpose. Only a file with the purpose `batch` has any."""
        if names and purpose != "batch":
            message = "Only a file with the purpose 'batch' has target_model_names. Leave them out."
            raise InvalidRequest(message, param=PARAM, code="invalid_purpose")
        return self.for_names(names)

    def for_names(self, names: Sequence[str]) -> list[str]:
        """The groups of these names or aliases, each once."""
        for name in names:
            if not self._deployments.has(self._caller.group(name)):
                message = f"The model '{name}' does not exist. GET /models lists the models that this key may use."
                raise InvalidRequest(message, param=PARAM, code="model_not_found")
        groups = list(dict.fromkeys(self._caller.group(name) for name in names))
        self._caller.require(groups, param=PARAM)
        for group in groups:
            if not self._deployments.of([group]):
                message = f"The model '{group}' runs no batches. GET /model/info shows which do (mode: batch)."
                raise InvalidRequest(message, param=PARAM, code="model_not_batchable")
        return groups

    def for_report(self, names: Sequence[str], report: Report) -> tuple[list[str], Report]:
        """The groups that may run a file with this report, and the report, in which lines that no group runs are bad.

        Where groups are named and all lines have the same model, that model may be any: each deployment gets its own
        instead. A file that no group may run is kept: its batches fail and say why, as at OpenAI.
        """
        if report.model is None:
            return self.for_names(names), report
        group = self._caller.group(report.model)
        groups = self.for_names(names) if names else self._of_lines(group)
        if group in groups or (names and not _has_several(report)):
            return groups, report
        return groups, report.rejected("model_not_found", _no_group(report.model, groups), "body.model")

    def _of_lines(self, group: str) -> list[str]:
        if not self._deployments.of([group]):
            return []
        self._caller.require([group])
        return [group]


def _has_several(report: Report) -> bool:
    return any(error.code == "model_mismatch" for error in report.errors)


def _no_group(model: str, groups: Sequence[str]) -> str:
    if groups:
        return f"The file is for {', '.join(groups)}, but this line's model is {model!r}. Name one of the former."
    return f"The model {model!r} does not exist or runs no batches. GET /models lists the models that your key may use."
