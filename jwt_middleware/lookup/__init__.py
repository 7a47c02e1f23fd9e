"""Asking a database about many keys at once: batched, deduplicated, cached, time-limited; one mechanism, two users."""

from .batch import Found, LookupFailed
from .breaker import Breaker
from .lanes import Lanes
from .limits import LookupLimits
from .lookup import Lookup

__all__ = ["Breaker", "Found", "Lanes", "Lookup", "LookupFailed", "LookupLimits"]
