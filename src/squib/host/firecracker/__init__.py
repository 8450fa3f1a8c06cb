"""Firecracker's own interface, as its host sees it: command lines, socket, bodies, order of calls, ends.

Does: say what Firecracker 1.16 and 1.17 understand, in our types, and turn whatever goes wrong into errors that name
it. Must not: know machines, drivers, images or networks; start processes; keep anything on disk. Imports contracts,
h11 and, of the host, what watches files and processes; the driver imports it.
"""
