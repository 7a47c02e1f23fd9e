"""Adopting: the tokens of an app's former code go on, whichever release a request reaches, and each is counted.

The old app: a cookie ``token``, a secret of 16 characters, no ``iat``, 30 days. If it has a table of six columns for
its sessions, the migration of docs/sessions.md makes it ``user_sessions``, and its tokens stay valid.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import uuid4

import httpx
import jwt
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from jwt_middleware import Claim, Envelope, Key, KeyRing, MemorySessionStore, SessionCookie
from jwt_middleware.sqlalchemy import SQLAlchemySessionStore, metadata
from jwt_middleware.testing import client, old_token
from tests.support.asgi import foreign_token
from tests.support.processes import ROOT
from tests.support.world import DAY, EPOCH, SECRET, FakeClock, World, authority_of, bearer

OLD_SECRET = b"sixteen letters."
MONTH = timedelta(days=30)
UNTIL = datetime.fromtimestamp(EPOCH + 30 * DAY, UTC)
OLD_KEY = Key.hmac(OLD_SECRET, verify_only=True, allow_short=True, until=UNTIL)
LINE: dict[str, Any] = {"before": UNTIL, "iat": False, "window": MONTH, "cookie": SessionCookie("token")}


@dataclass(slots=True, kw_only=True)
class Account:
    id: str
    role: str = "user"
    email: Annotated[str, Claim(since=2)] = "Unknown"


SEVEN = Account(id="7", role="admin", email="7@example.com")


class OldApp(World):
    """The old app, after it installed the package; ``line`` changes its line of ``also_accept``."""

    def __init__(self, *, store: bool = False, line: dict[str, Any] | None = None, **settings: Any) -> None:
        clock = FakeClock()
        adopting = {
            "schema": {"subject": "id", "version_claim": "v"},
            "keys": KeyRing([Key.hmac(SECRET, kid="2026"), OLD_KEY]),
            "also_accept": [Envelope.foreign(**{**LINE, **(line or {})})],
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


NAME = "foreign-2026-12-25"


class TestOldTokens:
    @pytest.mark.parametrize("store", [False, True])
    async def test_no_user_is_logged_out_and_each_exception_is_counted_each_time(self, store: bool) -> None:
        app = OldApp(store=store)
        for _ in range(3):
            response = await app.ask(cookie=f"token={minted()}")
            assert response.status_code == 200
            assert app.echo.session == SEVEN
            assert "set-cookie" not in response.headers
        rules = ("foreign", "window", "iat", "cookie", "key")
        assert app.counts("adoptions") == {(NAME, rule): 3 for rule in rules}

    async def test_a_token_is_counted_only_for_what_it_needed(self) -> None:
        app = OldApp()
        for _ in range(2):
            assert await app.status("__Host-session", iat=int(EPOCH) - 60, exp=int(EPOCH) + 3_600) == 200
        assert app.counts("adoptions") == {(NAME, "foreign"): 2, (NAME, "key"): 2}

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

    async def test_a_sliding_session_goes_on_if_the_app_promotes_it(self) -> None:
        """The former code renewed a cookie of an hour; `start` where the token is not own goes on in its place."""
        app = OldApp(store=True, renew_within=timedelta(days=6))
        seen = []
        async with client(app.app, cookies={"token": minted(iat=int(EPOCH), exp=int(EPOCH) + 3_600)}) as http:
            for _ in range(9):
                response = await http.get("/me")
                seen.append(response.status_code)
                if response.status_code == 200 and not app.echo.token.own:
                    issued = await app.authority.issue(app.echo.session)
                    http.cookies.set("__Host-session", issued.token, domain="testserver.local")
                app.clock.advance(600)
        assert seen == [200] * 9


class TestEnds:
    async def test_each_part_of_the_line_is_needed_and_may_be_deleted_later(self) -> None:
        lines: list[tuple[dict[str, Any], str]] = [
            ({"line": {"cookie": SessionCookie()}}, "token_missing"),
            ({"keys": KeyRing([Key.hmac(SECRET, kid="2026")])}, "key_unknown"),
            ({"line": {"iat": True}}, "claims_invalid"),
            ({"line": {"window": timedelta(days=7)}}, "lifetime_exceeded"),
            ({"line": {"version_claim": "version"}}, "claims_invalid"),
        ]
        for without, reason in lines:
            app = OldApp(**without)
            assert (await app.status(), app.recorder.reasons) == (401, [reason]), without

    async def test_the_old_key_ends_at_its_date(self) -> None:
        app = OldApp(line={"before": UNTIL + MONTH})
        assert await app.status(exp=int(EPOCH) + 30 * DAY) == 200
        app.clock.advance(30 * DAY)
        assert await app.status(exp=int(EPOCH) + 30 * DAY) == 401
        assert app.recorder.reasons[-1] == "key_unknown"


class TestOtherTokens:
    async def test_other_tokens_of_the_same_secret_do_not_become_sessions(self) -> None:
        others: list[dict[str, Any]] = [
            {"type": "refresh"},
            {"token_use": "id", "sid": "8b4c6f"},
            {"purpose": "password-reset"},
            {"nonce": "n", "at_hash": "x", "sid": "8b4c6f"},
            {"events": {}, "typ": "Logout", "sid": "8b4c6f"},
            {"type": None, "token_use": ["access", "id"]},
            {"scope": "password_reset"},
            {"action": "verify_email"},
            {"refresh": True},
            {"mfa": "pending"},
        ]
        for claims in others:
            app = OldApp()
            assert (await app.status(**claims), app.recorder.reasons) == (401, ["token_foreign"]), claims

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
            assert await OldApp(line={"recognise": recognise}).status() == status


class Browser:
    """A cookie jar in front of two releases behind one port; ``at`` is the one that a request reaches."""

    def __init__(self, **releases: Any) -> None:
        self.releases = releases
        self.jar: dict[str, str] = {}

    async def go(self, at: str, path: str = "/me", method: str = "GET") -> Any:
        pairs = "; ".join(f"{name}={value}" for name, value in self.jar.items())
        response = await self.releases[at].ask(path, method, cookie=pairs or None)
        for value in response.headers.get_list("set-cookie"):
            name, _, rest = value.partition("=")
            token = rest.partition(";")[0]
            self.jar.pop(name, None)
            if token:
                self.jar[name] = token
        return response.status_code


class Former:
    """The old release: PyJWT by hand, the cookie ``token``; it knows one user, who logs in as 19."""

    def __init__(self, clock: FakeClock, secret: bytes) -> None:
        self.clock, self.secret, self.user, self.seen = clock, secret, "19", None

    async def ask(self, path: str, method: str, *, cookie: str | None) -> Any:
        if path == "/login":
            now = int(self.clock.now())
            token = foreign_token(self.secret, {"id": self.user, "iat": now, "exp": now + DAY})
            return httpx.Response(200, headers={"set-cookie": f"token={token}; Path=/"})
        if path == "/logout":
            return httpx.Response(200, headers={"set-cookie": "token=; Max-Age=0; Path=/"})
        jar = dict(pair.split("=", 1) for pair in (cookie or "").split("; ") if pair)
        try:
            claims = jwt.decode(
                jar["token"], self.secret, ["HS256"], options={"verify_exp": False, "verify_iat": False}
            )
        except (KeyError, jwt.PyJWTError):
            return httpx.Response(401)
        self.seen = claims["id"]
        return httpx.Response(200)


class TestTwoReleases:
    """The cookie keeps its name while the former code runs, and both know one secret: as docs/adopting.md says."""

    def browser(self) -> tuple[Browser, OldApp, Former]:
        secret = SECRET.encode()
        new = OldApp(
            keys=KeyRing([Key.hmac(SECRET)]),
            cookie=SessionCookie("token"),
            line={"iat": True},
            schema={"subject": "id", "version_claim": "v", "mints": 1},
        )
        old = Former(new.clock, secret)
        return Browser(new=new, old=old), new, old

    async def test_a_log_in_at_either_holds_at_both_and_after_a_rollback(self) -> None:
        for at in ("new", "old"):
            browser, _, _ = self.browser()
            assert await browser.go(at, "/login", "POST") == 200
            seen = [await browser.go(release) for release in ("new", "old", "new", "old", "old")]
            assert seen == [200] * 5, at

    async def test_a_log_out_at_either_holds_at_both(self) -> None:
        for there in ("new", "old"):
            for here in ("new", "old"):
                browser, _, _ = self.browser()
                await browser.go(there, "/login", "POST")
                await browser.go(here, "/logout", "POST")
                assert [await browser.go(release) for release in ("new", "old")] == [401, 401], (there, here)

    async def test_no_user_acts_as_another(self) -> None:
        browser, new, old = self.browser()
        await browser.go("new", "/login", "POST")  # as 7
        await browser.go("old", "/logout", "POST")
        await browser.go("old", "/login", "POST")  # as 19
        assert await browser.go("new") == 200
        assert new.echo.session.id == "19"
        assert await browser.go("old") == 200
        assert old.seen == "19"


TABLES: dict[str, tuple[Any, Any, Any]] = {
    "integers": (sa.Integer(), sa.Integer(), sa.DateTime()),
    "uuids": (sa.Uuid(), sa.Uuid(), sa.DateTime(timezone=True)),
    "text": (sa.String(64), sa.String(64), sa.DateTime(timezone=True)),
}
"""Types of the id, the user's id and the times."""


async def migrated(engine: AsyncEngine, kind: str, tokens: dict[str, bool], subject: str) -> None:
    """A table of six columns with these tokens of one user, each active or not; migrated as docs/sessions.md has it."""
    id_, user_id, time = TABLES[kind]
    table = sa.Table(
        "user_sessions",
        sa.MetaData(),
        sa.Column("id", id_, primary_key=True),
        sa.Column("user_id", user_id, index=True),
        sa.Column("session_token", sa.Text, nullable=False),
        sa.Column("expires_at", time, index=True),
        sa.Column("last_activity_at", time),
        sa.Column("is_active", sa.Boolean),
    )
    now = datetime.now(UTC) if time.timezone else datetime.now(UTC).replace(tzinfo=None)
    times = {"expires_at": now + timedelta(days=7), "last_activity_at": now - timedelta(minutes=1)}
    async with engine.begin() as connection:
        await connection.run_sync(table.metadata.create_all)
        for number, (token, active) in enumerate(tokens.items(), start=1):
            ids = {
                "id": number if kind == "integers" else id_.python_type(str(uuid4())),
                "user_id": user_id.python_type(subject),
            }
            await connection.execute(sa.insert(table).values(session_token=token, is_active=active, **ids, **times))
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "sessions.md").read_text(), re.MULTILINE | re.DOTALL)
    scope: dict[str, Any] = {}
    exec(next(block for block in blocks if "async def adopt(" in block), scope)
    await scope["adopt"](engine)


class TestMigratedTable:
    @pytest.mark.parametrize("kind", TABLES)
    async def test_earlier_tokens_keep_their_rows(self, engine: AsyncEngine, kind: str) -> None:
        subject = "7" if kind == "integers" else "5a7bf8a5-1f3e-4d5c-9d56-0a2c2f7d0f11"
        if kind == "uuids" and engine.dialect.name == "sqlite":
            subject = subject.replace("-", "")  # as SQLite stores a UUID, and so as the app writes it into its tokens
        authority = authority_of(store=SQLAlchemySessionStore(engine), also_accept=[Envelope.foreign()])
        alive, ended, third = (
            old_token(authority, {"userId": subject, "email": f"{n}@x.y"}, sid=None, auth_time=None, typ="JWT")
            for n in range(3)
        )
        await migrated(engine, kind, {alive: True, ended: False, third: True}, subject)

        async def reason_of(token: str) -> str | None:
            reason = (await authority.authenticate(bearer(token))).reason
            return None if reason is None else str(reason.value)

        assert [await reason_of(token) for token in (alive, ended, third)] == [None, "session_revoked", None]
        listed = await authority.sessions_of(subject)
        assert len(listed) == 2
        assert await authority.revoke(listed[0].id)
        assert [await reason_of(token) for token in (alive, third)].count("session_revoked") == 1
        await authority.revoke_user(subject)
        assert [await reason_of(token) for token in (alive, third)] == ["session_revoked"] * 2
        await authority.aclose()

    async def test_the_migrated_table_is_that_of_a_new_database(self, engine: AsyncEngine) -> None:
        def inspected(connection: sa.Connection) -> Any:
            inspector = sa.inspect(connection)
            return (
                sorted(inspector.get_table_names()),
                [
                    (column["name"], str(column["type"]), column["nullable"])
                    for column in inspector.get_columns("user_sessions")
                ],
                sorted(str(index["name"]) for index in inspector.get_indexes("user_sessions")),
                inspector.get_pk_constraint("user_sessions")["constrained_columns"],
            )

        await migrated(engine, "integers", {"a.b.c": True}, "7")
        async with engine.begin() as connection:
            after = await connection.run_sync(inspected)
            assert "a.b.c" not in str((await connection.execute(sa.text("SELECT * FROM user_sessions"))).all())
            await connection.run_sync(metadata.drop_all)
            await connection.run_sync(metadata.create_all)
            assert await connection.run_sync(inspected) == after
