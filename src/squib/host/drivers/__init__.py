"""One file a driver: what makes and ends machines. The protocol is `base.Driver`, the list `registry`.

A driver must not keep tasks, connections or tables of its own: everything that it needs to end a machine stands in
the machine's record, which another process may have written. Imported by the host alone, through the registry.
"""
