"""Keys: ``material`` reads and checks them, ``key`` gives each one algorithm and an end, ``ring`` finds them."""

from .key import Key, KeyOptions
from .ring import KeyRing

__all__ = ["Key", "KeyOptions", "KeyRing"]
