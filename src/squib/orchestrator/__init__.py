"""Sandboxes by id, wherever they run: the protocol, and `local`, which holds a host in this process.

Does: turn what the scheduler asks for into machines of a host, idempotently by sandbox id. Must not: run a command in
a sandbox, know tasks' states, or touch the database. Imports contracts and host; the scheduler imports the protocol,
the composition root the implementations.
"""
