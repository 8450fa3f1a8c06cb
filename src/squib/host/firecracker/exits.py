"""What the exit status of a Firecracker process says."""

import signal

_MEANINGS = {
    0: "its guest shut down or rebooted",
    1: "it failed: to load a snapshot, to bind its socket, or in general",
    2: "it met what its authors had ruled out",
    148: "it was ended for a system call that its filter forbids",
    149: "it was ended by SIGBUS: a file that it maps has become shorter",
    150: "it was ended by SIGSEGV",
    151: "it was ended by SIGXFSZ: a file has reached its limit",
    152: "its configuration is bad",
    153: "its command line is bad",
    154: "it was ended by SIGXCPU",
    155: "it was ended by SIGPIPE",
    156: "it was ended by SIGHUP",
    157: "it was ended by SIGILL",
}


def meaning(status: int) -> str:
    """In words; `status` as `subprocess` gives it: below 0 for a signal."""
    if status < 0:
        try:
            return f"it was ended by {signal.Signals(-status).name}"
        except ValueError:
            return f"it was ended by signal {-status}"
    return _MEANINGS.get(status, f"it ended with status {status}")
