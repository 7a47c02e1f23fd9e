"""Lines of ``also_accept``: what each keyword of each kind admits, until when, and what is counted.

Two releases share keys, clock and store: one that minted the token, and one that reads it with the line and without.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import pytest

from jwt_middleware import Claim, ConfigError, Envelope, Key, KeyRing, SessionCookie, SessionSchema
from jwt_middleware.testing import old_token
from tests.support.asgi import foreign_token
from tests.support.stores import opened
from tests.support.world import ADA, DAY, EPOCH, SECRET, FakeClock, World, authority_of, bearer, cookie

LEEWAY = 30
OTHER = "another secret of the former code 01"
MONTH = timedelta(days=30)
V = {"version": 2, "subject": "userId", "version_claim": "v"}
Case = tuple[dict[str, Any], dict[str, Any], dict[str, Any], str, str | None]
"""The settings that minted the token; those that read it; the line's changes; the reason without it; its cookie."""

OWN: dict[str, Case] = {
    "window": ({"window": MONTH}, {}, {"window": MONTH}, "lifetime_exceeded", None),
    "issuer": ({}, {"issuer": "https://id"}, {"issuer": None}, "issuer_mismatch", None),
    "issuer, another": ({"issuer": "old"}, {"issuer": "new"}, {"issuer": "old"}, "issuer_mismatch", None),
    "audience": ({}, {"audience": "shop"}, {"audience": None}, "audience_mismatch", None),
    "audience, another": ({"audience": "a"}, {"audience": ["b", "c"]}, {"audience": "a"}, "audience_mismatch", None),
    "audience, given up": ({"audience": "a"}, {}, {"audience": ["a"]}, "audience_mismatch", None),
    "store": ({"store": None}, {}, {"store": None}, "session_unknown", None),
    "cookie": ({}, {}, {"cookie": SessionCookie("token")}, "token_missing", "token"),
    "typ": ({"typ": "JWT"}, {}, {"typ": "JWT"}, "token_foreign", None),
    "version_claim": ({"schema": V}, {}, {"version_claim": "v"}, "payload", None),
}
FOREIGN: dict[str, Case] = {
    "foreign": ({}, {}, {}, "token_foreign", None),
    "window": ({"exp": 20 * DAY}, {}, {"window": MONTH}, "lifetime_exceeded", None),
    "issuer": ({"iss": "old"}, {}, {"issuer": "old"}, "issuer_mismatch", None),
    "audience": ({"aud": "old"}, {}, {"audience": "old"}, "audience_mismatch", None),
    "iat": ({"iat": None}, {}, {"iat": False}, "claims_invalid", None),
    "cookie": ({}, {}, {"cookie": SessionCookie("token", domain="example.com")}, "token_missing", "token"),
    "scheme": ({}, {}, {"cookie": SessionCookie("token"), "scheme": "Bearer"}, "token_missing", 'token="Bearer {}"'),
    "typ": ({"typ": "rt+jwt"}, {}, {"typ": "rt+jwt"}, "token_foreign", None),
    "recognise": ({"type": "refresh"}, {}, {"recognise": lambda claims: "type" in claims}, "token_foreign", None),
    "key": ({"secret": OTHER}, {}, {}, "key_unknown", None),
    "null": ({"aud": None, "nbf": None, "iss": None, "sid": None, "jti": None}, {}, {}, "token_foreign", None),
}


class Deployment:
    """Two releases over one store and one clock."""

    def __init__(self, store: Any, clock: FakeClock) -> None:
        self.store, self.clock = store, clock
        self.start = clock.now()

    def moment(self, seconds: float) -> datetime:
        return datetime.fromtimestamp(self.start + seconds, UTC)

    def release(self, **settings: Any) -> World:
        return World(**{"store": self.store, "clock": self.clock, "sources": [], **settings})


async def refused(world: World, token: str, name: str | None) -> str | None:
    """The reason for which a request with the token is refused; None if it is not. ``name`` is of its cookie."""
    headers = bearer(token)
    if name is not None:
        headers = [(b"cookie", name.format(token).encode())] if "{}" in name else cookie(token, name)
    reason = (await world.authority.authenticate(headers)).reason
    return None if reason is None else str(reason.value)


def forged(at: float, **changed: Any) -> str:
    """A token of the former code; its times are relative to ``at``, None leaves nothing out but ``iat``."""
    secret, typ = changed.pop("secret", SECRET), changed.pop("typ", "JWT")
    lifetime = changed.pop("exp", DAY)
    claims = {"userId": "1", "email": "ada@example.com", "iat": at, "exp": at + lifetime, **changed}
    if claims["iat"] is None:
        del claims["iat"]
    return foreign_token(secret.encode(), claims, typ=typ)


@pytest.fixture(params=["none", "memory", "sqlite_url", "postgres_url"])
def place(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param) if "_" in request.param else request.param)


@pytest.fixture
async def deployment(place: str) -> AsyncIterator[Deployment]:
    clock = FakeClock(wall=float(int(time.time())))  # PostgreSQL has a clock of its own
    async with AsyncExitStack() as stack:
        yield Deployment(None if place == "none" else await stack.enter_async_context(opened(place, clock)), clock)


class TestOwnLines:
    @pytest.mark.parametrize("keyword", OWN)
    async def test_before_admits_what_an_earlier_setting_minted_and_counts_it(
        self, deployment: Deployment, keyword: str
    ) -> None:
        then, today, changes, reason, name = OWN[keyword]
        if keyword == "store" and deployment.store is None:
            return
        minting = deployment.release(**then).authority
        token = (await minting.issue(ADA)).token
        line = Envelope.before(deployment.moment(60), **changes)
        without, world = deployment.release(**today), deployment.release(**today, also_accept=[line])
        if reason == "payload":  # read as a payload of version 1
            outcome = await without.authority.authenticate(bearer(token))
            assert outcome.payload_version == "1"
        else:
            assert await refused(without, token, name) == reason
        for _ in range(2):
            assert await refused(world, token, name) is None
        counted = keyword.partition(",")[0]
        assert world.counts("adoptions") == {(line.name, counted): 2}
        outcome = world.recorder.outcomes[-1]
        assert outcome.token is not None
        assert (outcome.token.own, outcome.token.envelope, outcome.payload_version) == (True, line.name, "2")
        assert outcome.token.auth_time is not None

    @pytest.mark.parametrize("keyword", OWN)
    async def test_before_ends_for_tokens_minted_later_and_at_its_end(
        self, deployment: Deployment, keyword: str
    ) -> None:
        then, today, changes, _, name = OWN[keyword]
        if keyword == "store" and deployment.store is None:
            return
        minting = deployment.release(**then).authority
        issued = await minting.issue(ADA)
        claims = dict((await minting.verify(issued.token)).claims)
        window = then.get("window", timedelta(days=7)).total_seconds()
        world = deployment.release(
            **today, also_accept=[Envelope.before(deployment.moment(0), **changes)], leeway=timedelta(seconds=LEEWAY)
        )

        def minted(iat: float) -> str:
            times = {"iat": iat, "exp": iat + window + LEEWAY, "auth_time": min(claims["auth_time"], iat)}
            return str(minting.parts.minter.tokens.sign({**claims, **times}))

        last, later = minted(deployment.start + LEEWAY - 1), minted(deployment.start + LEEWAY)
        assert await refused(world, last, name) is None
        assert await refused(world, later, name) is not None or keyword == "version_claim"
        end = window + 2 * LEEWAY
        deployment.clock.advance(end - 1)
        assert await refused(world, last, name) is None  # and is cached now
        deployment.clock.advance(1)
        assert await refused(world, last, name) is not None or keyword == "version_claim"

    @pytest.mark.parametrize("keyword", OWN)
    async def test_coming_admits_what_the_next_release_mints(self, deployment: Deployment, keyword: str) -> None:
        then, today, changes, _, name = OWN[keyword]
        if keyword == "store" and deployment.store is None:
            return
        token = (await deployment.release(**then).authority.issue(ADA)).token
        world = deployment.release(**today, also_accept=[Envelope.coming(**changes)])
        assert await refused(world, token, name) is None
        assert world.counts("adoptions") == {("coming", keyword.partition(",")[0]): 1}
        deployment.clock.advance(6 * DAY)
        assert await refused(world, token, name) is None

    async def test_todays_tokens_need_no_line(self, deployment: Deployment) -> None:
        lines = [Envelope.coming(**changes) for *_, changes, _, _ in [OWN["audience"]]]
        world = deployment.release(audience="shop", also_accept=lines)
        token = await world.token()
        assert await refused(world, token, "__Host-session") is None
        assert await refused(world, token, "__Host-session") is None
        assert world.counts("adoptions") == {}
        assert len(world.recorder.outcomes) == 1  # the second one is a cache hit

    async def test_two_lines_never_mix(self, deployment: Deployment) -> None:
        lines = [
            Envelope.coming(audience="next"),
            Envelope.before(deployment.moment(60), window=MONTH),
        ]
        world = deployment.release(audience="shop", also_accept=lines)
        assert (
            await refused(world, (await deployment.release(audience="next").authority.issue(ADA)).token, None) is None
        )
        mixed = (await deployment.release(audience="next", window=MONTH).authority.issue(ADA)).token
        assert await refused(world, mixed, None) == "audience_mismatch"

    async def test_a_before_inherits_from_the_one_above_it(self, deployment: Deployment) -> None:
        lines = [
            Envelope.before(deployment.moment(120), audience=None),
            Envelope.before(deployment.moment(60), window=MONTH, name="older"),
        ]
        world = deployment.release(audience="shop", also_accept=lines)
        oldest = (await deployment.release(window=MONTH).authority.issue(ADA)).token
        assert await refused(world, oldest, None) is None
        assert world.counts("adoptions") == {("older", "audience"): 1, ("older", "window"): 1}
        never = (await deployment.release(window=MONTH, audience="shop").authority.issue(ADA)).token
        assert await refused(world, never, None) == "lifetime_exceeded"

    async def test_a_session_begun_since_cannot_be_tossed_into_an_older_cookie(self, deployment: Deployment) -> None:
        line = Envelope.before(deployment.moment(-60), cookie=SessionCookie("token"))
        world = deployment.release(also_accept=[line])
        token = await world.token()
        deployment.clock.advance(120)
        assert await refused(world, token, "__Host-session") is None
        assert await refused(world, token, "token") is not None


class TestForeignLines:
    @pytest.mark.parametrize("keyword", FOREIGN)
    async def test_each_keyword_admits_counts_and_ends(self, deployment: Deployment, keyword: str) -> None:
        token_of, today, changes, reason, name = FOREIGN[keyword]
        keys = {"keys": KeyRing([Key.hmac(SECRET), *([Key.hmac(OTHER, foreign=True)] if keyword == "key" else [])])}
        line = Envelope.foreign(before=deployment.moment(0), **changes)
        world = deployment.release(**today, **keys, also_accept=[line])
        lesser = [] if reason == "token_foreign" and keyword != "recognise" else [Envelope.foreign()]
        token = forged(deployment.start - 60, **token_of)
        if keyword != "key":
            assert await refused(deployment.release(**today, also_accept=lesser), token, name) == reason
        for _ in range(2):
            assert await refused(world, token, name) is None
        expected = {"foreign"} | ({keyword} & {"window", "iat", "cookie", "scheme", "key", "issuer", "audience"})
        if keyword == "scheme":
            expected |= {"cookie"}
        counted = {rule for _, rule in world.counts("adoptions")}
        assert counted - {"issuer", "audience"} == expected - {"issuer", "audience"}
        assert set(world.counts("adoptions").values()) == {2}
        info = world.recorder.outcomes[-1].token
        assert info is not None
        assert (info.own, info.envelope, info.auth_time, info.session_id) == (False, line.name, None, None)
        if keyword != "iat":
            late = forged(deployment.start + LEEWAY, **token_of)
            deployment.clock.advance(60)
            assert await refused(world, late, name) == "token_foreign"
        window = changes.get("window", timedelta(days=7)).total_seconds()
        end = deployment.start + window + 2 * LEEWAY
        lasting = forged(deployment.start + LEEWAY - 1, **{**token_of, "exp": window + LEEWAY})
        deployment.clock.advance(end - 1 - deployment.clock.now())
        assert await refused(world, lasting, name) is None
        deployment.clock.advance(1)
        assert await refused(world, lasting, name) == "token_foreign"

    async def test_sid_and_auth_time_of_a_foreign_token_mean_nothing(self, deployment: Deployment) -> None:
        world = deployment.release(also_accept=[Envelope.foreign()])
        token = forged(deployment.start, sid="8b4c6f", auth_time=deployment.start - DAY)
        assert await refused(world, token, None) is None
        assert await refused(deployment.release(), token, None) == "token_foreign"

    async def test_a_foreign_integer_subject_is_read(self, deployment: Deployment) -> None:
        token = foreign_token(
            SECRET.encode(), {"sub": 7, "userId": "1", "iat": deployment.start, "exp": deployment.start + 60}
        )
        assert await refused(deployment.release(also_accept=[Envelope.foreign()]), token, None) is None

    async def test_a_foreign_key_never_makes_an_own_token(self, deployment: Deployment) -> None:
        keys = KeyRing([Key.hmac(SECRET), Key.hmac(OTHER, foreign=True)])
        world = deployment.release(keys=keys, also_accept=[Envelope.foreign()])
        token = forged(deployment.start, secret=OTHER, typ="session+jwt", sid="x", auth_time=deployment.start)
        assert await refused(world, token, None) == "token_foreign"


async def never(claims: Any) -> bool:
    """True for whatever claims, since a coroutine is."""
    return False


class TestSettings:
    def test_a_line_that_cannot_work_fails_at_once(self, subtests: pytest.Subtests) -> None:
        at = datetime(2026, 12, 1, tzinfo=UTC)
        cases: list[tuple[Callable[[], object], str]] = [
            (lambda: Envelope.before(datetime(2026, 12, 1), window=MONTH), "aware datetime"),
            (lambda: Envelope.before("2026-12-01", window=MONTH), "aware datetime"),  # type: ignore[arg-type]
            (lambda: Envelope.before(at), "says nothing"),
            (Envelope.coming, "says nothing"),
            (lambda: Envelope.before(at, window=7), "timedelta"),  # type: ignore[arg-type]
            (lambda: Envelope.before(at, window=timedelta(0)), "positive timedelta"),
            (lambda: Envelope.before(at, issuer=""), "issuer"),
            (lambda: Envelope.before(at, audience=[]), "audience"),
            (lambda: Envelope.before(at, store=object()), "had no rows"),  # type: ignore[arg-type]
            (lambda: Envelope.before(at, cookie="token"), "SessionCookie"),  # type: ignore[arg-type]
            (lambda: Envelope.before(at, typ=""), "typ"),
            (lambda: Envelope.before(at, version_claim=""), "name of a claim"),
            (lambda: Envelope.before(at, leeway=30), "no keyword 'leeway'"),  # type: ignore[call-arg]
            (lambda: Envelope.foreign(before=at, store=None), "never have rows"),
            (lambda: Envelope.foreign(scheme="Basic"), "Bearer"),  # type: ignore[arg-type]
            (lambda: Envelope.foreign(recognise="type"), "plain function"),  # type: ignore[arg-type]
            (lambda: Envelope.foreign(recognise=never), "plain function"),  # type: ignore[arg-type]
            (lambda: Envelope.before(at, window=timedelta(days=40_000)), "36,500 days"),
            (lambda: Envelope.before(at, version_claim="exp"), "not registered"),
            (lambda: Envelope.before(datetime.max.replace(tzinfo=UTC), window=MONTH), "1970 and 9000"),
        ]
        for make, fix in cases:
            with subtests.test(fix=fix), pytest.raises(ConfigError, match=fix):
                make()

    def test_lines_that_contradict_each_other_fail_at_once(self, subtests: pytest.Subtests) -> None:
        first, second = (Envelope.before(datetime(2026, 12, day, tzinfo=UTC), window=MONTH) for day in (1, 2))
        foreign = Envelope.foreign()
        short = Key.hmac("short", allow_short=True, until=datetime(2100, 1, 1, tzinfo=UTC))
        cases: list[tuple[dict[str, Any], str]] = [
            ({"also_accept": [first, second]}, "newest first"),
            ({"also_accept": [first, first]}, "newest first"),
            ({"also_accept": [foreign, foreign]}, "two lines of also_accept are named 'foreign'"),
            ({"keys": KeyRing([Key.hmac(SECRET), short])}, "no line admits what it signed"),
            ({"typ": "JWT", "also_accept": [foreign]}, "does not tell own tokens from foreign ones"),
            ({"also_accept": [Envelope.coming(typ="JWT"), foreign]}, "does not tell own tokens"),
            (
                {
                    "typ": "JWT",
                    "also_accept": [foreign],
                    "keys": KeyRing([Key.hmac(SECRET), Key.hmac(SECRET, foreign=True)]),
                },
                "does not tell own tokens",
            ),
            ({"typ": ""}, "typ must not be empty"),
        ]
        for settings, fix in cases:
            with subtests.test(fix=fix), pytest.raises(ConfigError, match=fix):
                authority_of(**settings)

    def test_a_date_in_the_past_raises_nothing(self) -> None:
        authority_of(also_accept=[Envelope.before(datetime(2020, 1, 1, tzinfo=UTC), window=MONTH)])

    async def test_plain_own_tokens_are_asked_after_their_kind(self) -> None:
        world = World(typ="JWT", store=None)
        assert await world.reason(await world.token()) is None
        refresh = old_token(world.authority, {"userId": "1"}, type="refresh")
        assert await world.reason(refresh) == "token_foreign"

    async def test_a_claim_of_the_session_class_says_nothing_of_the_kind(self) -> None:
        @dataclass(kw_only=True)
        class Odd:
            user_id: Annotated[str, Claim("userId")]
            mfa: bool = True
            kind: int = 3

        plain = World(Odd, typ="JWT", store=None, schema={"version": 1}, sources=[])
        token = (await plain.authority.issue(Odd(user_id="1"))).token
        assert await plain.reason(token) is None
        line = Envelope.before(datetime(2030, 1, 1, tzinfo=UTC), typ="JWT")
        today = World(Odd, store=None, schema={"version": 1}, sources=[], also_accept=[line])
        assert await today.reason(token) is None
        back = Envelope.before(datetime(2030, 1, 1, tzinfo=UTC), typ="session+jwt")
        later = World(Odd, typ="JWT", store=None, schema={"version": 1}, sources=[], also_accept=[back])
        assert await later.reason((await today.authority.issue(Odd(user_id="1"))).token) is None

    async def test_an_awaitable_is_no_answer(self) -> None:
        promise: Any = asyncio.get_running_loop().create_future()
        world = World(store=None, also_accept=[Envelope.foreign(recognise=lambda claims: promise)])
        assert await world.reason(forged(EPOCH)) == "token_foreign"

    def test_names_and_kinds_are_shown(self) -> None:
        line = Envelope.before(datetime(2026, 12, 1, tzinfo=UTC), window=MONTH)
        assert (line.kind, line.name) == ("before", "before-2026-12-01")
        assert Envelope.foreign(before=datetime(2026, 12, 1, tzinfo=UTC)).name == "foreign-2026-12-01"
        assert SessionSchema(type(ADA), version=2, subject="userId").oldest == 1
        assert EPOCH > 0
