"""The two pages for people: plain forms, no script, every value escaped, a policy that allows nothing else."""

from __future__ import annotations

from html import escape
from typing import Final

from starlette.responses import HTMLResponse

from jwt_middleware import TokenInfo

from .session import Session

_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_LAYOUT: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} - jwt_middleware demo</title>
<link rel="stylesheet" href="/style.css">
</head>
<body>
<main>
<h1>{title}</h1>
{body}
</main>
</body>
</html>
"""
_LOGIN: Final = """{alert}
<form method="post" action="/login">
<label for="email">Email</label>
<input id="email" name="email" type="email" autocomplete="username" required>
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" required>
<button type="submit">Log in</button>
</form>
<p>The terminal that runs the demo shows who exists, and their password.</p>"""
_SESSION: Final = """<p role="status">{status}</p>
<dl>
{facts}
</dl>
<div class="buttons">
<form method="post" action="/api/consolidation/save"><button type="submit">Save a consolidation</button></form>
{release}
<form method="post" action="/logout"><button type="submit">Log out</button></form>
</div>"""
_RELEASE: Final = (
    """<form method="post" action="/release"><button type="submit">Release version 2 now</button></form>"""
)


def login_page(*, wrong: bool = False) -> HTMLResponse:
    """The form; ``wrong`` after a password that was not right."""
    alert = '<p role="alert">Email or password is wrong.</p>' if wrong else ""
    return _page("Log in", _LOGIN.format(alert=alert), status=401 if wrong else 200)


def session_page(session: Session, token: TokenInfo, *, released: bool) -> HTMLResponse:
    """What the app knows of who is logged in, and what they may do."""
    filled = ", ".join(f"{claim.claim} (from {claim.source})" for claim in token.filled)
    facts = {
        "Email": session.email,
        "User": session.user_id,
        "Company": session.company_id,
        "Role": session.role,
        "Permissions": ", ".join(session.permissions),
        "Payload of your token": f"version {token.version}",
        "Filled for this request": filled or "nothing",
        "Your session ends": f"{token.expires_at:%H:%M:%S} UTC",
    }
    body = _SESSION.format(
        status=f"Logins mint version {2 if released else 1} of the payload.",
        facts="\n".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts.items()),
        release=_RELEASE if "release" in session.permissions and not released else "",
    )
    return _page("Your session", body)


def _page(title: str, body: str, *, status: int = 200) -> HTMLResponse:
    return HTMLResponse(_LAYOUT.format(title=escape(title), body=body), status_code=status, headers=_HEADERS)
