"""A clock that a test moves."""


class Clock:
    """Called, it says the time in seconds."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now
