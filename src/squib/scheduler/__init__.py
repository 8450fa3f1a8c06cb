"""The scheduler: takes tasks from the queue and carries each through its steps, in a sandbox, to its end.

Does: hold a task's lease while it works on it; provision, bring in the repository, run the agent turn by turn, save
and collect the results, clean up; retry after faults of the infrastructure, never after an agent's own failure;
enforce limits and cancellation. Every step can be done again: a scheduler that is killed is replaced by one that
re-attaches to the running guest. Must not: run anything in a work tree that an agent has touched, trust what a guest
says, keep state of its own outside the store but the saved work below `state_dir`. Imports contracts, store, queue,
orchestrator's protocol and link; the composition root alone imports it.
"""

from squib.scheduler.config import SchedulerConfig
from squib.scheduler.service import Scheduler

__all__ = ["Scheduler", "SchedulerConfig"]
