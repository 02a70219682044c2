"""Authorization: who the caller is, what it owns, and which model groups it may use."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from manifold.errors import PermissionDenied
from manifold.limits import LimitedHolder

ALL_MODELS = frozenset({"all-proxy-models", "*"})
"""Names in a `models` list that stand for every model group, as LiteLLM spells them."""


class Credential(NamedTuple):
    """The virtual key of a request, and what the database said of it."""

    token_hash: str
    grant: str
    """What the key may do: the text that `manifold.auth` reads."""
    remembered: bool = False
    """Whether the database said so for an earlier request."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The holder of a virtual key, or of the master key (`admin`).

    A caller sees what its user, its team or, with neither, the key itself owns; an admin sees everything.
    """

    key_id: str | None = None
    user_id: str | None = None
    team_id: str | None = None
    admin: bool = False
    allowed: tuple[frozenset[str], ...] = ()
    """One set of model groups for each of key, user and team that limits them; a group must be in all of them."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """The key's own names for model groups."""
    limited: tuple[LimitedHolder, ...] = ()
    """The key, its user and its team, as far as they have limits of completions."""
    batch_limited: tuple[LimitedHolder, ...] = ()
    """The same, as far as they have limits of batches."""
    credential: Credential | None = field(default=None, compare=False, repr=False)
    """That of its request; `None` for the master key, and where a worker acts in the caller's name."""
    retry_failed_lines: int | None = None
    """How often failed lines of its batches run again; `None`: neither the key nor its user or team says so."""

    def group(self, model: str) -> str:
        """The model group of a request's `model`, which is one of the key's aliases or the group's own name."""
        return self.aliases.get(model, model)

    def may_use(self, group: str) -> bool:
        """Whether the caller may use this model group. Without any list of models, it may use all."""
        return all(group in models or models & ALL_MODELS for models in self.allowed)

    def require_admin(self) -> None:
        """Raise `PermissionDenied` unless the caller holds the master key."""
        if not self.admin:
            raise PermissionDenied("Only the master key may do this.", code="admin_only")

    def require(self, groups: Iterable[str], *, param: str = "model") -> None:
        """Raise `PermissionDenied` for the first group that the caller may not use."""
        for group in groups:
            if not self.may_use(group):
                raise PermissionDenied(
                    f"This key may not use the model '{group}'. GET /models lists the models that it may use.",
                    param=param,
                    code="model_access_denied",
                )


@dataclass(slots=True)
class PresentedKey:
    """The key of a request. Until it is looked up, nobody may learn anything by it."""

    value: str
    looked_up: bool = False
    """Whether it was, with whatever result, and need not be again."""
    caller: Caller | None = None
    """Its holder, once that is known."""
