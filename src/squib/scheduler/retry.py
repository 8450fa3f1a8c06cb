"""Whether, and when, a task is tried again. Pure."""

from squib.contracts.errors import DriverUnavailable, HostFull, InfrastructureError, SquibError

_FIRST, _FACTOR, _MOST = 0.5, 4.0, 60.0


def worth_it(error: Exception, *, named: bool = False) -> bool:
    """Whether a new attempt can help: for squib's own trouble, foreseen or not, and for nothing else.

    `named`: the task itself names its driver; where that can't be had, asking again gets the same answer.
    """
    if named and isinstance(error, DriverUnavailable):
        return False
    return isinstance(error, InfrastructureError) or not isinstance(error, SquibError)


def costs_attempt(error: Exception) -> bool:
    """A host without room has not tried, and the task's time has not begun: it waits as in the queue."""
    return not isinstance(error, HostFull)


def backoff(attempt: int) -> float:
    """Seconds to wait after this many attempts, from 1."""
    return float(min(_FIRST * _FACTOR ** min(attempt - 1, 10), _MOST))
