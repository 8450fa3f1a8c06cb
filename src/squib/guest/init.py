"""The first program of a machine that has a kernel of its own, started as root: `guest.pyz init`.

It sets up what nobody has set up before it, forks off the helper, which keeps root's rights (see `rights`), and
becomes the supervisor itself: user 1000 without any capability or way to one. So process 1 is the supervisor, which
no process inside can kill and which the kernel spares when memory runs out; and it takes in all orphans.
"""

import contextlib
import ctypes
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from squib.guest import boot, helper, lazy, privileges, rights

UID = 1000
_RB_POWER_OFF = 0x4321FEDC
_SPARED = "-1000"  # by the kernel, when memory runs out


def main(arguments: Sequence[str]) -> int:
    """Become the supervisor; gives the exit status where the machine does not end with it, 2 for wrong usage.

    `--config FILE --filter FILE`: the guest's configuration, and a system call filter as the kernel takes it.
    """
    if len(arguments) != 4 or (arguments[0], arguments[2]) != ("--config", "--filter"):
        sys.stderr.write("usage: guest.pyz init --config FILE --filter FILE\n")
        return 2
    if os.getpid() != 1 or os.geteuid() != 0:
        sys.stderr.write("init: must be process 1, and root\n")
        return 2
    boot.prepare()
    refused = Path(arguments[3]).read_bytes()
    pid, end = _fork_helper()
    privileges.become(UID)
    privileges.refuse_calls(refused)
    status = int(lazy.member("squib.guest.supervisor:serve")(arguments[1]))
    with contextlib.suppress(OSError):
        os.close(end)  # unless the supervisor has: it may not have come to life
    os.waitpid(pid, 0)  # the helper switches the machine off, and ends only if it can't
    return status


def _fork_helper() -> tuple[int, int]:
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        try:
            _help(theirs.fileno())
        except OSError as error:
            sys.stderr.write(f"the helper has ended: {error}\n")
        finally:
            os._exit(1)
    theirs.close()
    os.environ[helper.VARIABLE] = f"{ours.fileno()} {pid}"
    return pid, ours.detach()


def _help(end: int) -> None:
    """Serve the supervisor; when it is gone, switch the machine off."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_SPARED)
    privileges.keep_only(privileges.SYS_ADMIN, privileges.SYS_TIME, privileges.SYS_BOOT)
    rights.perform({"machine_id": os.urandom(16).hex()}, ("machine-id",))
    rights.serve(end)
    os.sync()
    ctypes.CDLL(None).reboot(_RB_POWER_OFF)
