"""What the app calls: log in, log out, read the session, revoke."""

from .authority import SessionAuthority
from .reading import RawHeaders

__all__ = ["SessionAuthority", "RawHeaders"]
