"""Remote keys: ``endpoint`` asks the URL, ``keyset`` reads what came, ``remote`` keeps the snapshot that answers."""

from .remote import RemoteKeys

__all__ = ["RemoteKeys"]
