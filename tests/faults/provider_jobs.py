"""Jobs at the providers of a run: how each one goes, and what its results look like (the faults of real providers)."""

import json
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal

from manifold.providers import JobState, JobStatus, LineFailure

Course = Literal[
    "completes", "fails for its quota", "fails for its own fault", "fails for its input", "expires", "never ends"
]
COURSES: dict[Course, float] = {
    "completes": 12, "fails for its quota": 1, "fails for its own fault": 1, "fails for its input": 1, "expires": 1,
    "never ends": 0.5,
}  # fmt: skip
FAILURES: dict[str, LineFailure] = {
    "fails for its quota": LineFailure("token_limit_exceeded", "Enqueued token limit reached for the model."),
    "fails for its own fault": LineFailure("server_error", "The server had an error while processing the batch."),
    "fails for its input": LineFailure("invalid_json_line", "A line is not valid JSON.", line=1),
}
LOST = JobStatus("failed", errors=(LineFailure("job_lost", "The provider does not know this job."),), lost=True)
DEFECTS = ("shuffled", "no counts", "unnamed", "torn", "short", "lost for a while")
"""What a job may show for a while, or always, and a gateway has to cope with. All answers can be read in the end."""
LASTING_DEFECTS = ("lines missing", "line repeated", "garbage", "lost")
"""What never becomes right. The batch has to end nevertheless, and say what is wrong."""
_FAIL = "fail-this-line"


@dataclass(frozen=True, slots=True)
class Line:
    """A request of a job's input."""

    custom_id: str
    model: str
    text: str


@dataclass(frozen=True, slots=True)
class Answered:
    """What the provider did, and bills, for one request."""

    failed: bool
    input_tokens: int
    output_tokens: int


@dataclass(eq=False)
class ProviderJob:
    """A job as the provider has it."""

    ref: str
    our_id: str | None
    input_ref: str
    lines: list[Line]
    created_at: float
    listed_at: float
    course: Course
    ends_at: float
    defects: frozenset[str] = frozenset()
    defect_seconds: float = 0.0
    """How long a passing defect is shown, less than the 20 minutes in which a gateway asks again."""
    ended_at: float = 0.0
    state: JobState = "validating"
    cancelled_at: float | None = None
    answered: dict[str, Answered] = field(default_factory=dict)
    outputs: dict[str, bytes] = field(default_factory=dict)
    """Result files by their refs."""

    @property
    def open(self) -> bool:
        return "lost" not in self.defects and self.state in ("validating", "in_progress", "finalizing", "cancelling")

    @property
    def output_ref(self) -> str:
        return f"output-{self.ref}"

    @property
    def error_ref(self) -> str:
        return f"error-{self.ref}"

    def shows(self, defect: str, now: float) -> bool:
        """Whether a passing defect is still shown."""
        since = self.created_at if defect == "lost for a while" else self.ended_at
        return defect in self.defects and now < since + self.defect_seconds

    def advance(self, now: float, random: Random) -> None:
        """Let the job go on up to this time."""
        if not self.open:
            return
        if now < self.ends_at:
            if self.state == "validating" and now > self.created_at + 20 and self.course != "never ends":
                self.state = "in_progress"
            return
        if self.state == "cancelling":
            self._end("cancelled", now, random, share=random.random())
        elif self.course == "completes":
            self._end("completed", now, random)
        elif self.course == "expires":
            self._end("expired", now, random, share=random.random())
        else:
            self.state = "failed"

    def cancel(self, now: float, seconds: float) -> None:
        if self.open and self.state != "cancelling":
            self.state, self.cancelled_at = "cancelling", now
            self.ends_at = min(self.ends_at, now + seconds)

    def status(self, now: float) -> JobStatus:
        """What a GET of the job shows."""
        if "lost" in self.defects or self.shows("lost for a while", now):
            return LOST
        completed = sum(not one.failed for one in self.answered.values())
        failed = len(self.answered) - completed
        named = not self.shows("unnamed", now)
        errors = (FAILURES[self.course],) if self.state == "failed" else ()
        return JobStatus(
            self.state,
            total=len(self.lines),
            completed=0 if "no counts" in self.defects else completed,
            failed=0 if "no counts" in self.defects else failed,
            output_ref=self.output_ref if named and self.output_ref in self.outputs else None,
            error_ref=self.error_ref if named and self.error_ref in self.outputs else None,
            errors=errors,
        )

    def content(self, ref: str, now: float) -> bytes:
        """A result file as it is downloaded now."""
        whole = self.outputs[ref]
        if self.shows("torn", now):
            return whole[: len(whole) - 7]
        if self.shows("short", now):
            return b"".join(whole.splitlines(keepends=True)[:-1])
        return whole

    def _end(self, state: JobState, now: float, random: Random, share: float = 1.0) -> None:
        """End with answers to this share of the lines."""
        self.state, self.ended_at = state, now
        done = self.lines[: round(len(self.lines) * share)]
        for number, line in enumerate(done):
            self.answered[line.custom_id] = Answered(line.text.startswith(_FAIL), 10 + number, 5)
        results = [
            (self.answered[line.custom_id].failed, _answer(line, self.answered[line.custom_id])) for line in done
        ]
        if state == "expired":
            for line in self.lines[len(done) :]:
                self.answered[line.custom_id] = Answered(True, 0, 0)
                results.append((True, _expired(line)))
        self._write(self.output_ref, self._spoilt([one for failed, one in results if not failed], random))
        self._write(self.error_ref, [one for failed, one in results if failed])

    def _spoilt(self, results: list[dict[str, Any]], random: Random) -> list[dict[str, Any]]:
        """The results of the output file, with the job's lasting defects."""
        if not results:
            return results
        if "lines missing" in self.defects:
            results.pop()
        if "line repeated" in self.defects:
            results.extend(results[:1])
        if "garbage" in self.defects:
            results.append({})
        if "shuffled" in self.defects:
            random.shuffle(results)
        return results

    def _write(self, ref: str, results: list[dict[str, Any]]) -> None:
        if results:
            self.outputs[ref] = b"".join(json.dumps(one).encode() + b"\n" for one in results)


def lines_of(content: bytes) -> list[Line]:
    """The requests of an input. Raises if the input is not whole, as a provider's validation does."""
    requests = [json.loads(line) for line in content.splitlines()]
    return [Line(one["custom_id"], one["body"]["model"], one["body"]["messages"][0]["content"]) for one in requests]


def _answer(line: Line, answered: Answered) -> dict[str, Any]:
    usage = {
        "prompt_tokens": answered.input_tokens,
        "completion_tokens": answered.output_tokens,
        "total_tokens": answered.input_tokens + answered.output_tokens,
    }
    body: dict[str, Any] = {"object": "chat.completion", "model": line.model, "usage": usage}
    if answered.failed:
        body = {"error": {"message": "The line is bad.", "code": "bad"}, "usage": usage}
    response = {"status_code": 400 if answered.failed else 200, "request_id": "r", "body": body}
    return {"id": f"answer-{line.custom_id}", "custom_id": line.custom_id, "response": response, "error": None}


def _expired(line: Line) -> dict[str, Any]:
    error = {"code": "batch_expired", "message": "This request could not be executed before the window ended."}
    return {"id": f"answer-{line.custom_id}", "custom_id": line.custom_id, "response": None, "error": error}
