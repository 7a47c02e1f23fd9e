"""Access control: the visitor, whose session the store confirmed, and the app's own ``allow``."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, Generic

from starlette.requests import Request

from ..types import RawToken, S, TokenInfo

Allow = Callable[[Request, S], Awaitable[bool] | bool]
"""True if the session may administrate. Any other result, and an exception, denies."""
_logger: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor(Generic[S]):
    """The session of one request, confirmed by the store."""

    session: S = field(repr=False)
    token: TokenInfo
    raw: RawToken
    session_id: str = field(repr=False)
    """The id of its row; for a token without ``sid``, of the row that would revoke it."""
    user_id: str = field(repr=False)


async def is_allowed(allow: Allow[S], request: Request, visitor: Visitor[Any]) -> bool:
    """Call the app's ``allow``, unless a default filled a claim: a right must not come from a default."""
    if any(filled.source == "default" for filled in visitor.token.filled):
        return False
    try:
        result = allow(request, visitor.session)
        if inspect.isawaitable(result):
            result = await result
    except Exception as error:  # the app's own code; the text of its exception may quote the session
        _logger.warning("allow= of SessionAdmin raised %s; the request is denied", type(error).__name__)
        return False
    return result is True  # not merely true: a function that returns a user or a tuple is a mistake
