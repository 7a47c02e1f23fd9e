"""A bounded cache whose entries expire, and how a full table makes room."""

from __future__ import annotations

from jwt_middleware.lookup.cache import Cache, make_room


def test_a_value_is_served_until_it_expires() -> None:
    cache: Cache[str, str] = Cache(3)
    cache.put("a", "1", until=160.0)
    assert cache.get("a", 159.9) == "1"
    assert cache.get("a", 160.0) is None
    assert cache.get("b", 100.0) is None


def test_the_oldest_entry_is_evicted_first() -> None:
    cache: Cache[str, str] = Cache(3)
    for place, key in enumerate("abca"):
        cache.put(key, str(place), until=1.0)
    cache.put("d", "4", until=1.0)
    assert len(cache) == 3
    assert [cache.get(key, 0.0) for key in "abcd"] == ["3", None, "2", "4"]


def test_a_table_that_is_not_full_keeps_everything() -> None:
    table = dict.fromkeys(range(9), "value")
    assert make_room(table, 10) == []
    assert len(table) == 9


def test_a_full_table_evicts_the_oldest_and_one_more_in_sixty_four() -> None:
    few, many = dict(enumerate("abc")), dict(enumerate(map(str, range(6_400))))
    assert make_room(few, 3) == ["a"]
    assert make_room(many, 6_400) == [str(number) for number in range(101)]
    assert (list(few), next(iter(many))) == ([1, 2], 101)


def test_an_entry_that_another_thread_took_is_not_returned() -> None:
    class Contended(dict[int, str]):
        def pop(self, key: int, *default: object) -> object:  # type: ignore[override]  # as dict's, for this test
            dict.pop(self, key, None)
            return dict.pop(self, key, *default)

    assert make_room(Contended({1: "a", 2: "b"}), 2) == []
