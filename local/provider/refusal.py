"""The exception for an error that the simulated provider answers."""


class Refusal(Exception):
    """An error with a status and a message; each dialect answers it in its own shape."""

    def __init__(
        self, status: int, code: str | None, message: str, param: str | None = None, retry_after: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.retry_after = retry_after
        """Seconds, for a provider that has them within the error."""


def not_found(kind: str, ref: str) -> Refusal:
    return Refusal(404, "notFound", f"No such {kind} object: {ref}", "id")
