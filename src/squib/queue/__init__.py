"""Queues: they carry ids of tasks to workers and wake them. The task's row, with its lease, is the truth.

Does: hand each id to one worker at a time, at least once. Must not: decide who owns a task (that is
`store.tasks.claim`), or keep anything that would be lost with it. May be imported by scheduler, api and cli; imports
contracts and store.
"""
