"""The circuit breaker: a state machine on numbers."""

from __future__ import annotations

from jwt_middleware.lookup.breaker import FAILURES, FIRST_PAUSE, LONGEST_PAUSE, Breaker


def failed(times: int = FAILURES, breaker: Breaker | None = None) -> Breaker:
    breaker = breaker or Breaker()
    for _ in range(times):
        breaker.failed(0.0)
    return breaker


class TestBreaker:
    def test_few_failures_leave_it_closed(self) -> None:
        breaker = failed(FAILURES - 1)
        assert not breaker.is_open
        assert breaker.try_acquire(0.0)
        breaker.succeeded()
        assert not failed(FAILURES - 1, breaker).is_open

    def test_many_failures_in_a_row_open_it(self) -> None:
        breaker = failed()
        assert breaker.is_open
        assert not breaker.admits(FIRST_PAUSE - 0.01)
        assert not breaker.try_acquire(FIRST_PAUSE - 0.01)

    def test_after_a_pause_it_lets_one_probe_through_and_no_second(self) -> None:
        breaker = failed()
        assert breaker.admits(FIRST_PAUSE)
        assert breaker.try_acquire(FIRST_PAUSE)
        assert not breaker.try_acquire(FIRST_PAUSE)
        assert not breaker.admits(1_000.0)

    def test_a_probe_that_succeeds_closes_it(self) -> None:
        breaker = failed()
        breaker.try_acquire(FIRST_PAUSE)
        breaker.succeeded()
        assert not breaker.is_open
        assert breaker.try_acquire(FIRST_PAUSE)
        assert breaker.try_acquire(FIRST_PAUSE)

    def test_each_probe_that_fails_doubles_the_pause_up_to_the_longest(self) -> None:
        breaker, now, pause = failed(), 0.0, FIRST_PAUSE
        for _ in range(6):
            assert not breaker.admits(now + pause - 0.01)
            now += pause
            assert breaker.try_acquire(now)
            breaker.failed(now, probe=True)
            pause = min(pause * 2, LONGEST_PAUSE)
        assert pause == LONGEST_PAUSE

    def test_success_resets_the_pause(self) -> None:
        breaker = failed()
        breaker.try_acquire(FIRST_PAUSE)
        breaker.failed(FIRST_PAUSE, probe=True)
        breaker.succeeded()
        assert failed(FAILURES, breaker).admits(FIRST_PAUSE)

    def test_an_earlier_query_that_fails_does_not_count_as_the_probe(self) -> None:
        breaker = failed()
        breaker.failed(0.3)  # sent before it opened
        assert breaker.try_acquire(FIRST_PAUSE)
        breaker.failed(FIRST_PAUSE)
        assert not breaker.try_acquire(1_000.0)
        breaker.failed(FIRST_PAUSE, probe=True)
        assert breaker.try_acquire(FIRST_PAUSE + 2 * FIRST_PAUSE)

    def test_a_probe_that_fails_after_it_was_closed_is_a_first_failure(self) -> None:
        breaker = failed()
        breaker.try_acquire(FIRST_PAUSE)
        breaker.succeeded()
        breaker.failed(FIRST_PAUSE, probe=True)
        assert not breaker.is_open
