"""The command line, and the composition root: the one place where all rooms meet.

One file a command (or group), registered by module path in `app`, so that a command loads only what it needs. What
users' commands know of a server they ask through `squib.client`; only `up`, `api`, `scheduler` and `doctor` touch
the other rooms.

Must not hold anything that another room would want: no other room may import it.
"""
