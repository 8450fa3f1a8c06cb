"""`squib list`."""

import itertools
import time

from squib.cli import connect, exits, options
from squib.cli.output import clean, say, say_json, table
from squib.contracts.task import Task, TaskState

_UNITS = ((86_400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def list_(
    *,
    state: tuple[TaskState, ...] = (),
    label: options.Labels = (),
    limit: int = 50,
    json: options.Json = False,
) -> int:
    """List tasks, newest first.

    Args:
        state: Only those in this state; may be given again.
        label: Only those with this label KEY=VALUE; may be given again.
        limit: How many at most; 50 where absent.
        json: Print one task a line as JSON.
    """
    if limit < 1:
        raise exits.Usage("--limit: must be at least 1", fields={"limit": "must be at least 1"})
    with connect.client() as client:
        tasks = client.tasks.iterate(states=state, labels=options.pairs(label), limit=min(limit, 200))
        found = list(itertools.islice(tasks, limit))
    if json:
        for task in found:
            say_json(task)
    elif found:
        table(("id", "state", "agent", "age", "prompt"), [_row(task) for task in found])
    else:
        say("no tasks")
    return exits.OK


def _row(task: Task) -> list[str]:
    prompt = clean(task.spec.prompt, lines=False)
    short = prompt if len(prompt) <= 60 else prompt[:59] + "…"
    return [task.id, standing(task), clean(task.spec.agent or "", lines=False), age(task.created_at), short]


def standing(task: Task) -> str:
    """The task's state in words; of an idle one, whether its sandbox is put to disk."""
    return task.state.value.replace("_", " ") + (", suspended" if task.suspended else "")


def age(since: float) -> str:
    """How long ago that was, in its largest unit."""
    passed = max(0.0, time.time() - since)
    return next((f"{passed / size:.0f}{unit}" for size, unit in _UNITS if passed >= size), "now")
