"""The records of Bedrock's batch inference: https://docs.aws.amazon.com/bedrock/latest/userguide/batch-inference-data.html"""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from local.provider.completion_objects import Stamp
from local.provider.lenient_json import dumps, loads
from local.provider.line_shape import LATE, Answer, Marks, Problem, Request, Unanswered
from local.provider.native.bedrock_models import converse, invoke
from local.provider.refusal import Refusal

Invocation = Literal["InvokeModel", "Converse"]
MAX_LINES = 50_000
MEMBERS = frozenset({"recordId", "modelInput"})


class BedrockLines:
    """The records of a job of this model."""

    marks = Marks(b'"recordId":"', b'"text":"', b'"modelOutput":{', b'"role":"assistant",', b'"modelOutput":{')
    max_lines = MAX_LINES
    one_list = True
    shuffled = True

    def __init__(self, model: str, invocation: Invocation, *, late_as_errors: bool, too_few: str | None) -> None:
        """`late_as_errors`: whether records that ran out of time are written. `too_few`: why the job has not enough."""
        self._model = model
        self._invocation = invocation
        self._too_few = too_few
        self.endings = {"expired": Unanswered("408", LATE)} if late_as_errors else {}

    def read(self, raw: bytes) -> Request:
        try:
            record = loads(raw)
        except ValueError as error:
            raise Problem("invalid_json", "The input file has a line that is no JSON object.") from error
        if not isinstance(record, dict) or not isinstance(record.get("modelInput"), dict) or record.keys() - MEMBERS:
            raise Problem("invalid_record", "A record must have a modelInput, and may have a recordId.")
        known = record.get("recordId", "")
        if not isinstance(known, str):
            raise Problem("invalid_record", "The recordId must be a string.")
        return Request(known, record["modelInput"])

    def problems(self, request: Request) -> Iterator[Problem]:
        if self._too_few is not None:
            yield Problem("too_few_records", self._too_few)

    def tried(self, request: Request) -> str:
        return hashlib.sha256(dumps(request.body)).hexdigest()

    def answer(self, request: Request, stamp: Stamp) -> Answer:
        if self._invocation == "Converse":
            output = converse(self._model, request.body)
        else:
            output = invoke(self._model, request.body, stamp.id_suffix)
        line = _line(request, stamp, {"modelOutput": output.body})
        return Answer(True, line, output.input_tokens, output.output_tokens)

    def refused(self, request: Request, refusal: Refusal, stamp: Stamp) -> bytes:
        return _line(request, stamp, {"error": {"errorCode": refusal.status, "errorMessage": refusal.message}})

    def unanswered(self, request: Request, why: Unanswered, stamp: Stamp) -> bytes:
        code = int(why.code) if why.code.isdecimal() else 500
        return _line(request, stamp, {"error": {"errorCode": code, "errorMessage": why.message}})


def _line(request: Request, stamp: Stamp, outcome: Mapping[str, Any]) -> bytes:
    """Bedrock gives a record without an id one."""
    known = request.id or stamp.id_suffix[:11].upper()
    return dumps({"recordId": known, **outcome, "modelInput": request.body}) + b"\n"
