"""Who asks, and whether they may: by a session that the store says now is active, and by the app's own function."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, Generic

from starlette.requests import Request

from ..authority import SessionAuthority
from ..errors import Reason, Refusal
from ..names import DECIDED
from ..tokens.jws import adopted_session_id, digest
from ..types import RawToken, S, TokenInfo

Allow = Callable[[Request, S], Awaitable[bool] | bool]
"""Whether a session may administrate; only True allows, an exception denies."""
_logger: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor(Generic[S]):
    """Whose request it is."""

    session: S = field(repr=False)
    token: TokenInfo
    raw: RawToken
    user_id: str = field(repr=False)

    @property
    def session_id(self) -> str:
        """What the store knows the session by, also where the token has no ``sid``."""
        return self.token.session_id or adopted_session_id(digest(self.raw.value))


async def visitor_of(authority: SessionAuthority[S], request: Request) -> Visitor[S]:
    """The request's session, after an uncached check.

    Raises:
        Refusal: There is none, the authority's middleware did not read it, it ended, or the store cannot say.
    """
    if request.scope.get(DECIDED, (None,))[0] is not authority:
        raise Refusal(Reason.TOKEN_MISSING)
    session = authority.session(request)
    raw = authority.transport.read(request.scope["headers"]).raw
    if raw is None:
        raise Refusal(Reason.TOKEN_MISSING)
    await authority.check(raw, fresh=True)
    user_id = str(getattr(session, authority.schema.subject_attribute))
    return Visitor(session=session, token=request.scope["state"]["token"], raw=raw, user_id=user_id)


async def allowed(allow: Allow[S], request: Request, visitor: Visitor[Any]) -> bool:
    """Ask the app. A claim that a default stands in for grants nothing, so such a session is not asked about."""
    if any(filled.source == "default" for filled in visitor.token.filled):
        return False
    try:
        said = allow(request, visitor.session)
        if inspect.isawaitable(said):
            said = await said
    except Exception as error:  # the app's own code; its text may quote the session
        _logger.warning("allow= of SessionAdmin raised %s, which denies", type(error).__name__)
        return False
    return said is True
