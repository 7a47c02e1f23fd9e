"""A full table makes room."""

from __future__ import annotations

from jwt_middleware.lookup.cache import make_room


def test_a_table_that_is_not_full_keeps_everything() -> None:
    table = dict.fromkeys(range(9), "value")

    assert make_room(table, 10) == []
    assert len(table) == 9


def test_of_a_full_one_the_oldest_leave_at_least_one_and_one_in_sixty_four() -> None:
    few, many = dict(enumerate("abc")), dict(enumerate(map(str, range(6_400))))

    assert make_room(few, 3) == ["a"]
    assert make_room(many, 6_400) == [str(number) for number in range(101)]
    assert (list(few), next(iter(many))) == ([1, 2], 101)


def test_what_another_thread_took_first_is_not_missed() -> None:
    class Contended(dict[int, str]):
        def pop(self, key: int, *default: object) -> object:  # type: ignore[override]  # as dict's, for this test
            dict.pop(self, key, None)
            return dict.pop(self, key, *default)

    assert make_room(Contended({1: "a", 2: "b"}), 2) == []
