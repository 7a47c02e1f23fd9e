"""Tables of sessions: in memory here, in a database in ``stores.sqlalchemy``."""

from .memory import MemorySessionStore

__all__ = ["MemorySessionStore"]
