"""Run the task's own test command in the sandbox, where it names one."""

import time

from squib.contracts.event import Draft, EventType
from squib.contracts.guest import TerminalRequest, TerminalResult
from squib.scheduler import limits
from squib.scheduler.attach import attach
from squib.scheduler.job import Job

_MAX_OUTPUT = 20 * 1024  # bytes kept of each stream: both fit one event, however they are escaped


async def tests(job: Job) -> str:
    """The outcome is told, and decides the task's end when no further turn comes."""
    command = job.task.spec.test_command
    if command is None or job.progress.tests_passed is not None:
        return "save"
    link = await attach(job)
    seconds = limits.run_seconds(job.task.spec.limits, job.started_at, time.time())
    await job.emit(Draft(EventType.TESTS_STARTED, {"command": command}))
    result = await link.terminal(
        TerminalRequest(command=command, timeout_seconds=seconds, max_output_bytes=_MAX_OUTPUT)
    )
    job.progress.tests_passed = result.exit_code == 0 and not result.timed_out
    await job.emit(Draft(EventType.TESTS_COMPLETED, _told(result, job.progress.tests_passed)))
    return "save"


def _told(result: TerminalResult, passed: bool) -> dict[str, object]:
    return {
        "exit_code": result.exit_code,
        "passed": passed,
        "timed_out": result.timed_out,
        "output": (result.stdout + result.stderr)[: 2 * _MAX_OUTPUT],
        "truncated": result.stdout_truncated or result.stderr_truncated,
    }
