"""What virtual machines are made of, whoever runs them: a kernel with its first programs, drives, memory.

Nothing here knows a virtual machine monitor: the drivers do. Nothing that comes out of a package is run on the host.
Imported by the host's drivers, and by the command line for `kernels`.
"""
