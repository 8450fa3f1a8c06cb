"""When a request is sent again, and after how long. No I/O."""

import random

from squib.contracts.errors import SquibError

#: Seconds between attempts at most, before jitter.
LONGEST = 8.0
#: Answers that say "not now".
BUSY = frozenset({429, 502, 503, 504})


def again(*, repeatable: bool, status: int | None, attempt: int, attempts: int) -> bool:
    """Say whether to send it once more. `status` is None where no answer came; `attempt` counts from 1.

    Only a repeatable request is sent twice: one that reads, one that means the same the second time, or one that
    carries an Idempotency-Key.
    """
    return repeatable and attempt < attempts and (status is None or status in BUSY)


def delay(attempt: int, retry_after: str | None = None) -> float:
    """Seconds to wait after the attempt of that number, counted from 1; the server's own word goes first."""
    if retry_after and retry_after.isdigit():
        return min(float(retry_after), 60.0)
    return min(LONGEST, 0.1 * 2.0 ** min(attempt, 10)) * random.uniform(0.5, 1.0)


def passing(error: SquibError) -> bool:
    """Whether an error of a stream may be gone at the next connection."""
    return error.status in BUSY
