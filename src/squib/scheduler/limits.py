"""When a task, a turn and an idle sandbox end. Pure; all times are seconds since 1970."""

import math

from squib.contracts.task import Limits

#: What the scheduler waits beyond the guest's own limit of a turn before it steps in.
TURN_GRACE = 5.0


def deadline(limits: Limits, started_at: float) -> float:
    """When the whole task ends; it counts from its first sandbox, whoever has worked on it since."""
    return started_at + limits.seconds


def run_seconds(limits: Limits, started_at: float, now: float) -> int:
    """What the guest is told: the turn's limit, or what is left of the task's where that is less; at least 1."""
    return max(1, min(limits.turn_seconds, math.ceil(deadline(limits, started_at) - now)))


def turn_deadline(limits: Limits, run_since: float) -> float:
    """When the scheduler ends a turn whose guest has not done so itself."""
    return run_since + limits.turn_seconds + TURN_GRACE


def idle_until(limits: Limits, started_at: float, now: float) -> float:
    """Until when the sandbox waits for a follow-up: never beyond the task's own end."""
    return min(now + limits.idle_seconds, deadline(limits, started_at))


def sandbox_ttl(limits: Limits, started_at: float, now: float) -> float:
    """How long the host keeps the sandbox at most: what is left of the task, and time to collect its results."""
    return max(60.0, deadline(limits, started_at) - now + 900.0)
