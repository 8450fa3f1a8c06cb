"""All that crosses a wire, once: tasks, events, sandboxes, machines, the guest's HTTP contract, errors, ids.

Frozen standard-library dataclasses and pure functions over them. Imports nothing but the standard library, so
that the guest, which runs under any CPython >= 3.11 inside a sandbox, can share it. Does no I/O and holds no
state. Every other room may import it; it imports none of them.
"""
