"""Answers in place of the application's: refusals, garbage, injected bodies and redirects."""

from collections.abc import Mapping

from starlette.types import Send

from local.provider.dialects import PREFIX, error_format_of
from local.provider.faults.fault import Fault
from local.provider.faults.prompt_refusals import prompt_refusal
from local.provider.native.error_formats import GoogleErrorFormat
from local.provider.refusal import Refusal

STATUSES = {"refuse": 400, "rate_limit": 429, "error": 500}


def refusal_of(fault: Fault, path: str) -> Refusal:
    """What the provider of this path refuses the call with."""
    if fault.kind == "too_long" or fault.kind == "forbidden":
        match = PREFIX.match(path)
        return prompt_refusal(fault.kind, match["form"] if match else "")
    return Refusal(fault.status or STATUSES[fault.kind], fault.code, fault.message, retry_after=fault.retry_after)


async def send_answer(fault: Fault, path: str, send: Send) -> None:
    """Send the answer that the fault asks for."""
    more: Mapping[str, str] = {}
    if fault.kind == "garbage":
        status, body, content_type = fault.status or 200, b"<html>not what you asked for", b"text/html"
    elif fault.kind == "inject":
        status, body, content_type = fault.status or 200, fault.text.encode(), b"application/json"
    elif fault.kind == "redirect":
        status, body, content_type = 302, b"", b"text/plain"
    else:
        refusal = refusal_of(fault, path)
        answer = error_format_of(path).answer(refusal)
        status, body, content_type, more = refusal.status, answer.body, answer.content_type.encode(), answer.headers
    headers = [(b"content-type", content_type), (b"content-length", str(len(body)).encode())]
    headers += [(name.encode(), value.encode()) for name, value in more.items()]
    if fault.kind == "redirect":
        headers.append((b"location", fault.text.encode()))
    if not isinstance(error_format_of(path), GoogleErrorFormat):
        waits = {b"retry-after": fault.retry_after, b"retry-after-ms": fault.retry_after_ms}
        headers += [(name, value.encode()) for name, value in waits.items() if value is not None]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
