"""The breaker: a state machine on numbers."""

from __future__ import annotations

from jwt_middleware.lookup.breaker import FAILURES, FIRST_PAUSE, LONGEST_PAUSE, Breaker


def opened(now: float = 0.0) -> Breaker:
    breaker = Breaker()
    for _ in range(FAILURES):
        breaker.failed(now)
    return breaker


def test_few_failures_leave_it_closed() -> None:
    breaker = Breaker()
    for _ in range(FAILURES - 1):
        breaker.failed(0.0)
    assert not breaker.is_open
    assert breaker.allows(0.0)
    breaker.succeeded()
    for _ in range(FAILURES - 1):
        breaker.failed(0.0)
    assert not breaker.is_open


def test_many_in_a_row_open_it() -> None:
    breaker = opened()
    assert breaker.is_open
    assert not breaker.admits(FIRST_PAUSE - 0.01)
    assert not breaker.allows(FIRST_PAUSE - 0.01)


def test_after_a_pause_one_probe_is_let_through_and_no_second() -> None:
    breaker = opened()
    assert breaker.admits(FIRST_PAUSE)
    assert breaker.allows(FIRST_PAUSE)
    assert not breaker.allows(FIRST_PAUSE)
    assert not breaker.admits(1_000.0)


def test_a_probe_that_succeeds_closes_it() -> None:
    breaker = opened()
    breaker.allows(FIRST_PAUSE)
    breaker.succeeded()
    assert not breaker.is_open
    assert breaker.allows(FIRST_PAUSE)
    assert breaker.allows(FIRST_PAUSE)


def test_each_probe_that_fails_doubles_the_pause_up_to_the_longest() -> None:
    breaker, now, pause = opened(), 0.0, FIRST_PAUSE
    for _ in range(6):
        assert not breaker.admits(now + pause - 0.01)
        now += pause
        assert breaker.allows(now)
        breaker.failed(now, probe=True)
        pause = min(pause * 2, LONGEST_PAUSE)
    assert pause == LONGEST_PAUSE


def test_success_forgets_the_long_pauses() -> None:
    breaker = opened()
    breaker.allows(FIRST_PAUSE)
    breaker.failed(FIRST_PAUSE, probe=True)
    breaker.succeeded()
    for _ in range(FAILURES):
        breaker.failed(100.0)
    assert breaker.admits(100.0 + FIRST_PAUSE)


def test_a_straggler_that_fails_does_not_stand_for_the_probe() -> None:
    breaker = opened()
    breaker.failed(0.3)  # sent before it opened
    assert breaker.allows(FIRST_PAUSE)
    breaker.failed(FIRST_PAUSE)
    assert not breaker.allows(1_000.0)
    breaker.failed(FIRST_PAUSE, probe=True)
    assert breaker.allows(FIRST_PAUSE + 2 * FIRST_PAUSE)


def test_a_probe_that_fails_after_a_straggler_succeeded_is_a_first_failure() -> None:
    breaker = opened()
    breaker.allows(FIRST_PAUSE)
    breaker.succeeded()
    breaker.failed(FIRST_PAUSE, probe=True)
    assert not breaker.is_open
