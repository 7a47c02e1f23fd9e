"""Adopting: the tokens of an app from before it installed the package go on, and each exception is counted.

The old app: a cookie ``token``, a secret of 16 characters, no ``iat``, 30 days.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import pytest

from jwt_middleware import Adoption, Claim, ConfigError, Key, KeyRing, MemorySessionStore, SessionCookie
from jwt_middleware.testing import client
from jwt_middleware.tokens.jwt import ADOPTION_RULES
from tests.support.asgi import foreign_token
from tests.support.world import DAY, EPOCH, SECRET, FakeClock, World

OLD_SECRET = b"sixteen letters."
MONTH = timedelta(days=30)
UNTIL = datetime.fromtimestamp(EPOCH + 30 * DAY, UTC)
OLD_KEY = Key.hmac(OLD_SECRET, verify_only=True, allow_short=True, until=UNTIL)


@dataclass(slots=True, kw_only=True)
class Account:
    id: str
    role: str = "user"
    email: Annotated[str, Claim(since=2)] = "Unknown"


SEVEN = Account(id="7", role="admin", email="7@example.com")


class OldApp(World):
    """The old app, after it installed the package."""

    def __init__(self, *, store: bool = False, **settings: Any) -> None:
        clock = FakeClock()
        adopting = {
            "schema": {"subject": "id", "version_claim": "v"},
            "keys": KeyRing([Key.hmac(SECRET, kid="2026"), OLD_KEY]),
            "cookie": SessionCookie(also_read=("token",)),
            "adoption": Adoption(iat_required=False, accepted_lifetime=MONTH, sessions="marks" if store else "refuse"),
            "store": MemorySessionStore(clock=clock) if store else None,
        }
        super().__init__(Account, clock=clock, **{**adopting, **settings})
        self.users.rows = {"7": {"email": "7@example.com"}}
        self.with_login(SEVEN)

    async def status(self, name: str = "token", **claims: Any) -> int:
        """Of a request with a token that the old app minted three days ago; its ``version`` meant something else."""
        return (await self.ask(cookie=f"{name}={minted(**claims)}")).status_code


def minted(**claims: Any) -> str:
    """A token of the old app; None leaves a claim out."""
    payload = {"id": "7", "role": "admin", "version": "web-3.1", "exp": int(EPOCH) + 27 * DAY, **claims}
    return foreign_token(OLD_SECRET, {name: value for name, value in payload.items() if value is not None})


class TestOldTokens:
    @pytest.mark.parametrize("store", [False, True])
    async def test_no_user_is_logged_out_and_each_exception_is_counted_each_time(self, store: bool) -> None:
        app = OldApp(store=store)
        for _ in range(3):
            response = await app.ask(cookie=f"token={minted()}")
            assert response.status_code == 200
            assert app.echo.session == SEVEN
            assert "set-cookie" not in response.headers
        expected = {("cookie",), ("key",), ("iat",), ("lifetime",)} | ({("sid",)} if store else set())
        assert app.counts("adoptions") == dict.fromkeys(expected, 3)

    async def test_a_token_is_counted_only_for_what_it_needed(self) -> None:
        app = OldApp()
        for _ in range(2):
            assert await app.status("__Host-session", iat=int(EPOCH) - 60, exp=int(EPOCH) + 3_600) == 200
        assert app.counts("adoptions") == {("key",): 2}

    @pytest.mark.parametrize("store", [False, True])
    async def test_the_next_login_is_a_session_of_today_and_needs_no_exception(self, store: bool) -> None:
        app = OldApp(store=store)
        async with client(app.app, cookies={"token": minted()}) as http:
            assert (await http.get("/me")).status_code == 200
            before = app.counts("adoptions")
            login = await http.post("/login")
            assert login.headers.get_list("set-cookie")[0].startswith("token=;")
            http.cookies.delete("token")  # the jar keeps what no server set; a browser has let it go
            assert (await http.get("/me")).status_code == 200
        assert app.echo.session == SEVEN
        assert app.counts("adoptions") == before
        assert app.recorder.outcomes[-1].payload_version == "2"
        assert app.recorder.outcomes[-1].key_id == "2026"

    async def test_logging_out_ends_an_old_token_where_there_is_a_store(self) -> None:
        app = OldApp(store=True)
        assert await app.status() == 200
        gone = await app.ask("/logout", "POST", cookie=f"token={minted()}")
        assert [value.split(";")[0] for value in gone.headers.get_list("set-cookie")] == ["__Host-session=", "token="]
        assert await app.status() == 401
        assert app.recorder.reasons[-1] == "session_revoked"
        assert await app.status(exp=int(EPOCH) + DAY) == 200

    @pytest.mark.parametrize("revoked", ["all", "user"])
    async def test_marks_revoke_tokens_without_iat_too(self, revoked: str) -> None:
        app = OldApp(store=True)
        assert await app.status() == 200
        await (app.authority.revoke_all() if revoked == "all" else app.authority.revoke_user("7"))
        assert await app.status() == 401
        assert app.recorder.reasons[-1] == "session_revoked"

    async def test_with_a_store_old_tokens_are_refused_unless_marks_are_configured(self) -> None:
        app = OldApp(store=True, adoption=Adoption(iat_required=False, accepted_lifetime=MONTH))
        assert await app.status() == 401
        assert app.recorder.reasons == ["session_unknown"]


class TestEnds:
    async def test_each_line_of_the_adoption_is_needed_and_may_be_deleted_later(self) -> None:
        lines: list[tuple[dict[str, Any], str]] = [
            ({"cookie": SessionCookie()}, "token_missing"),
            ({"keys": KeyRing([Key.hmac(SECRET, kid="2026")])}, "key_unknown"),
            ({"adoption": Adoption(accepted_lifetime=MONTH)}, "claims_invalid"),
            ({"adoption": Adoption(iat_required=False)}, "lifetime_exceeded"),
            ({"schema": {"subject": "id"}}, "claims_invalid"),
        ]
        for without, reason in lines:
            app = OldApp(**without)
            assert (await app.status(), app.recorder.reasons) == (401, [reason]), without

    async def test_the_old_key_ends_at_its_date(self) -> None:
        app = OldApp()
        assert await app.status(exp=int(EPOCH) + 30 * DAY) == 200
        app.clock.advance(30 * DAY)
        assert await app.status(exp=int(EPOCH) + 30 * DAY) == 401
        assert app.recorder.reasons[-1] == "key_unknown"


class TestOtherTokens:
    async def test_exceptions_are_for_tokens_without_sid_alone(self) -> None:
        app = OldApp()
        for claims in ({}, {"iat": int(EPOCH)}, {"iat": None, "exp": int(EPOCH) + 60}):
            assert await app.status(sid="3f0c3a1e-0000-4000-8000-000000000000", **claims) == 401
        assert app.recorder.reasons == ["claims_invalid", "lifetime_exceeded", "claims_invalid"]

    async def test_other_tokens_of_the_same_secret_do_not_become_sessions(self) -> None:
        others: list[dict[str, Any]] = [
            {"type": "refresh"},
            {"token_type": "refresh"},
            {"token_use": "id"},
            {"purpose": "password-reset"},
            {"nonce": "n"},
            {"type": None, "token_use": ["access"]},
        ]
        for claims in others:
            app = OldApp()
            assert (await app.status(**claims), app.recorder.reasons) == (401, ["claims_invalid"]), claims

    async def test_access_tokens_do(self) -> None:
        for name, use in (("type", "access"), ("token_type", "session"), ("token_use", "access")):
            assert await OldApp().status(**{name: use}) == 200, name

    async def test_the_app_can_say_which_tokens_are_sessions(self) -> None:
        rules: list[tuple[Any, int]] = [
            (lambda claims: "role" in claims, 200),
            (lambda claims: False, 401),
            (lambda claims: 1 / 0, 401),
        ]
        for recognise, status in rules:
            app = OldApp(adoption=Adoption(iat_required=False, accepted_lifetime=MONTH, recognise=recognise))
            assert await app.status() == status


class TestSettings:
    def test_a_short_secret_needs_an_end(self) -> None:
        with pytest.raises(ConfigError):
            Key.hmac(OLD_SECRET, verify_only=True)
        with pytest.raises(ConfigError, match="until"):
            Key.hmac(OLD_SECRET, verify_only=True, allow_short=True)

    def test_the_page_names_every_rule(self) -> None:
        page = (Path(__file__).parents[2] / "docs" / "adopting.md").read_text()
        assert tuple(re.findall(r"\| `([a-z]+)` \|$", page, re.MULTILINE)) == ADOPTION_RULES
