"""A stand-in for Firecracker and its jailer: the production path without hardware virtualisation.

It has the real ones' command lines, socket, states, limits, order, faults and ends, and boots no kernel: where it has
a guest's zipapp, starting a machine runs the guest under bubblewrap in the VMM's network namespace, as the VMM's
user. `install` writes the two programs; `faults` says how they are made to fail; `guest` what a machine is here.
Stdlib alone: the programs are zipapps, which the jailer copies into jails that hold nothing but a system's Python.
"""
