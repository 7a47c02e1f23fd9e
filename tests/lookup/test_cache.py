"""The cache: for a while, and bounded."""

from __future__ import annotations

from jwt_middleware.lookup.cache import Cache


def cache(ttl: float = 60.0, negative_ttl: float = 5.0, limit: int = 3) -> Cache[str, str]:
    return Cache(ttl=ttl, negative_ttl=negative_ttl, limit=limit)


def test_a_value_holds_for_its_time() -> None:
    known = cache()
    known.put("a", "1", 100.0)
    assert known.get("a", 159.9) == ("1",)
    assert known.get("a", 160.0) is None
    assert known.get("b", 100.0) is None


def test_that_there_is_none_holds_for_a_shorter_time() -> None:
    known = cache()
    known.put("a", None, 100.0)
    assert known.get("a", 104.9) == (None,)
    assert known.get("a", 105.0) is None


def test_a_time_of_zero_keeps_nothing() -> None:
    known = cache(ttl=0.0)
    known.put("a", "1", 0.0)
    known.put("b", None, 0.0)
    assert len(known) == 1
    assert known.get("b", 0.0) == (None,)


def test_the_oldest_leaves_first() -> None:
    known = cache()
    for place, key in enumerate("abca"):
        known.put(key, str(place), 0.0)
    known.put("d", "4", 0.0)
    assert len(known) == 3
    assert [known.get(key, 0.0) for key in "abcd"] == [("3",), None, ("2",), ("4",)]


def test_what_is_dropped_is_gone() -> None:
    known = cache()
    known.put("a", "1", 0.0)
    known.put("b", "1", 0.0)
    known.drop("a")
    known.drop("a")
    assert known.get("a", 0.0) is None
    known.clear()
    assert len(known) == 0
