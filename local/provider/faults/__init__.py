"""Faults on demand: what goes wrong with a call of a provider's API, and the layer that makes it go wrong.

`fault` says what can be asked for, `injection` is the ASGI layer that does it, and each other module is one kind of
fault: answers in place of the real one, truncated answers, faults within a stream, answers without an end (`floods`)
and answers with other members (`overrides`). What goes wrong with a job and not with a call is in `defects`.
"""

from local.provider.faults.fault import Fault, Faults
from local.provider.faults.injection import FaultInjection

__all__ = ["Fault", "FaultInjection", "Faults"]
