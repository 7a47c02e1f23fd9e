"""Tokens that were accepted before: bounded, the oldest leave first."""

from __future__ import annotations

from hashlib import sha256

from jwt_middleware.sessions.token_cache import Seen
from jwt_middleware.tokens.jws import digest


def test_a_token_is_known_by_a_digest_of_the_whole_of_it() -> None:
    assert digest(b"a.b.c") == sha256(b"a.b.c").digest()
    assert digest(b"a.b.c") != digest(b"a.b.d")


def test_what_is_put_is_found_until_it_is_dropped() -> None:
    seen = Seen(10)
    seen.put(b"k", (b"session", None, 5.0, 3, 5.0, None))
    assert seen.get(b"k") == (b"session", None, 5.0, 3, 5.0, None)
    seen.put(b"k", (b"token", None, 6.0, 0, 6.0, None))
    assert seen.get(b"k") == (b"token", None, 6.0, 0, 6.0, None)
    seen.drop(b"k")
    seen.drop(b"k")
    assert seen.get(b"k") is None


def test_the_table_is_bounded_and_the_oldest_leave_first() -> None:
    seen = Seen(3)
    for key in (b"a", b"b", b"c", b"a", b"d"):
        seen.put(key, (key, None, 0.0, 0, 0.0, None))
    assert len(seen) == 3
    assert [seen.get(key) is not None for key in (b"a", b"b", b"c", b"d")] == [True, False, True, True]
    seen.clear()
    assert len(seen) == 0


def test_a_large_table_makes_room_for_many_at_once() -> None:
    seen = Seen(1_000)
    for number in range(5_000):
        seen.put(number.to_bytes(2, "big"), (b"", None, 0.0, 0, 0.0, None))
        assert min(number + 1, 980) <= len(seen) <= 1_000
    assert all(seen.get(number.to_bytes(2, "big")) for number in range(4_020, 5_000))
