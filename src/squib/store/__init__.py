"""SQL: tasks, their events, messages, uploads, artifacts, users. The one truth that survives every process.

Does: transactions, fencing by lease token, gap-free numbering of events, wake-ups after the commit, files beside
the rows. Must not: decide what a task does next, talk to a sandbox, or make a network call inside a transaction.
SQLite serves one process; split roles need PostgreSQL. May be imported by queue, scheduler, api and cli; imports
contracts alone.
"""

from squib.store.feed import Frames
from squib.store.lease import Begin, Lease, Taken
from squib.store.store import Store

__all__ = ["Begin", "Frames", "Lease", "Store", "Taken"]
