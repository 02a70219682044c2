"""What happened in a run, for whoever reads why it failed."""

from collections.abc import Callable


class Trace:
    """The steps of a run, in order, each with its time and its actor."""

    def __init__(self) -> None:
        self.clock: Callable[[], float] = lambda: 0.0
        self._lines: list[tuple[float, str, str, bool]] = []

    def add(self, actor: str, what: str) -> None:
        """Note an action of a client, a fault, or what the gateway says of itself."""
        self._lines.append((self.clock(), actor, what, True))

    def step(self, actor: str, what: str) -> None:
        """Note that a task went on."""
        self._lines.append((self.clock(), actor, what, False))

    def __len__(self) -> int:
        return len(self._lines)

    def text(self, steps: int) -> str:
        """Actions and faults of the whole run, and the last steps."""
        from_here = len(self._lines) - steps
        shown = [line for number, line in enumerate(self._lines) if line[3] or number >= from_here]
        return "\n".join(f"{time:>12,.1f}  {actor:<14} {what}" for time, actor, what, _ in shown)
