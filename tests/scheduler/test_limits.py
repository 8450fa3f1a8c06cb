from hypothesis import given
from hypothesis import strategies as st

from squib.contracts.task import Limits
from squib.scheduler import limits


def test_the_turn_gets_its_limit_or_what_is_left_of_the_task() -> None:
    wanted = Limits(seconds=100, turn_seconds=60)
    assert limits.run_seconds(wanted, 1000.0, 1000.0) == 60
    assert limits.run_seconds(wanted, 1000.0, 1070.0) == 30
    assert limits.run_seconds(wanted, 1000.0, 1099.9) == 1


def test_a_turn_is_watched_a_little_beyond_the_guests_own_limit() -> None:
    assert limits.turn_deadline(Limits(turn_seconds=60), 1000.0) == 1060 + limits.TURN_GRACE


def test_idling_never_outlives_the_task() -> None:
    wanted = Limits(seconds=100, idle_seconds=60)
    assert limits.idle_until(wanted, 1000.0, 1010.0) == 1070.0
    assert limits.idle_until(wanted, 1000.0, 1090.0) == 1100.0


@given(
    seconds=st.integers(1, 604_800),
    turn=st.integers(1, 604_800),
    elapsed=st.floats(-10, 1_000_000, allow_nan=False),
)
def test_no_limit_is_ever_below_a_second_or_beyond_what_was_asked(seconds: int, turn: int, elapsed: float) -> None:
    wanted = Limits(seconds=seconds, turn_seconds=turn)
    assert 1 <= limits.run_seconds(wanted, 1000.0, 1000.0 + elapsed) <= turn
    assert limits.sandbox_ttl(wanted, 1000.0, 1000.0 + elapsed) >= 60
