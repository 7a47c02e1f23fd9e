"""Sessions and claims in a database, through SQLAlchemy; needs the extra ``sqlalchemy``.

``SQLAlchemySessionStore`` keeps sessions in the tables of ``metadata``; ``SQLAlchemyClaims`` reads missing claims.
"""

from .claims import SQLAlchemyClaims
from .sessions import SQLAlchemySessionStore
from .tables import metadata, session_marks, user_sessions

__all__ = ["SQLAlchemyClaims", "SQLAlchemySessionStore", "metadata", "session_marks", "user_sessions"]
