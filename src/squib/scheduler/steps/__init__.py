"""The steps of a task, in the order that most tasks take them. Each can be done again after a crash.

    provision → repository → run → tests → save → collect → decide ─┬→ cleanup → finish
                             ↑                                      ├→ idle → (decide)
                             └──────────────── the next turn ───────┘

A step takes the job and gives the name of the next. It may be begun again at any point: in the same sandbox, by
another process, or, from `provision` on, in a new sandbox.
"""

from collections.abc import Awaitable, Callable

from squib.scheduler.job import Job
from squib.scheduler.steps.agent import run
from squib.scheduler.steps.collect import collect, save_work
from squib.scheduler.steps.finish import cleanup, finish
from squib.scheduler.steps.idle import idle
from squib.scheduler.steps.provision import provision
from squib.scheduler.steps.repository import repository
from squib.scheduler.steps.tests import tests
from squib.scheduler.steps.turns import decide

DONE = "done"

STEPS: dict[str, Callable[[Job], Awaitable[str]]] = {
    "provision": provision,
    "repository": repository,
    "run": run,
    "tests": tests,
    "save": save_work,
    "collect": collect,
    "decide": decide,
    "idle": idle,
    "cleanup": cleanup,
    "finish": finish,
}
