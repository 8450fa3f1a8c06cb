"""Problem documents of what a task, not a request, can fail by."""

from typing import Any

from squib.contracts.errors import SquibError


class AgentFailed(SquibError):
    """The agent's own failure: an outcome of the task, never retried."""

    code, title = "agent_failed", "The agent failed"
    default_advice = "Read the task's last events; change the prompt or the settings, then 'squib retry'."


class TestsFailed(SquibError):
    """The agent ended well, the task's test command did not."""

    __test__ = False  # it is no test case
    code, title = "tests_failed", "The tests failed"
    default_advice = "'squib events' has the end of the tests' output; the work so far is kept: 'squib diff'."


def problem_of(error: BaseException) -> dict[str, Any]:
    """The document for any error; an unforeseen one says no more than its kind, since it may hold anything."""
    if isinstance(error, SquibError):
        return error.problem()
    return SquibError(f"an unforeseen error in the scheduler: {type(error).__name__}").problem()
