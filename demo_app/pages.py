"""The log-in page, for who comes without a script: a plain form, and a policy that allows nothing else."""

from __future__ import annotations

from typing import Final

from starlette.responses import HTMLResponse

SECURITY: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_LOGIN: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Log in - jwt_middleware demo</title>
<link rel="icon" href="/static/icon.svg">
<link rel="stylesheet" href="/static/style.css">
</head>
<body class="plain">
<main>
<h1>Log in</h1>
{alert}
<form method="post" action="/login">
<label for="email">Email</label>
<input id="email" name="email" type="email" autocomplete="username" required>
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" required>
<button type="submit">Log in</button>
</form>
<p>The terminal that runs the demo shows who exists, and their password.</p>
</main>
</body>
</html>
"""


def login_page(*, wrong: bool = False) -> HTMLResponse:
    """The form; ``wrong`` after a password that was not right."""
    alert = '<p role="alert">Email or password is wrong.</p>' if wrong else ""
    return HTMLResponse(_LOGIN.format(alert=alert), status_code=401 if wrong else 200, headers=SECURITY)
