"""The network of virtual machines: for each one a room of its own, with the machine's tap and nothing else in it.

A room has no route, no address translation and no name service, so that nothing has to be forbidden: all that a
machine can reach is the relay, and all that the relay reaches is the machine's gateway. Every machine has the same
address, so that clones of one need no new one. Must not know which monitor runs the machine. For host/drivers alone.
"""
