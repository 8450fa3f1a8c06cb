"""Rights: more than the sandbox started with, by set-user-id, capabilities, maps of users or what was left over."""

import ctypes
import os
import shutil
import stat
import subprocess
from pathlib import Path

from tests.conformance.escape.attempts.base import Bait, Shown, attempt, call, first, libc

_PR_GET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _PR_GET_SECUREBITS = 39, 47, 27


def _status(name: str, pid: str = "self") -> str:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return line.partition(":")[2].strip()
    return ""


@attempt(
    why="Without that promise set-user-id programs give their owner's rights.",
    wins="it is not made",
    shown=Shown.USER,
)
def new_privileges(bait: Bait) -> str | None:
    """Ask prctl(2) whether this process may still gain rights by executing a program."""
    return "it may" if libc.prctl(_PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0 else None


@attempt(why="A filter that is not there filters nothing.", wins="no filter is in force", shown=Shown.USER)
def unfiltered_calls(bait: Bait) -> str | None:
    """Look whether a filter of system calls is in force."""
    return None if _status("Seccomp") == "2" else f"Seccomp: {_status('Seccomp')}"


@attempt(why="A capability is a part of root.", wins="one is there", shown=Shown.ROOT)
def capabilities(bait: Bait) -> str | None:
    """Look at all five sets of capabilities of one's own."""
    sets = {name: _status(name) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}
    held = {name: value for name, value in sets.items() if value.strip("0")}
    return str(held) if held else None


@attempt(
    why="User 0 owns what the kernel offers, even without a capability.", wins="this is user 0", shown=Shown.ROOT
)
def be_root(bait: Bait) -> str | None:
    """Look at all user and group ids of one's own."""
    return "user 0" if 0 in (*os.getresuid(), *os.getresgid()) else None


@attempt(
    why="A group that was not given up opens that group's files (docker, disk, kvm).", wins="another group is there"
)
def groups_of_the_host(bait: Bait) -> str | None:
    """Look for groups besides one's own that came with this process."""
    left = set(os.getgroups()) - {os.getgid()}
    return f"groups {sorted(left)}" if left else None


@attempt(why="Another user's id is another user's rights.", wins="an id changes", shown=Shown.ROOT)
def become_another_user(bait: Bait) -> str | None:
    """setresuid(2), setresgid(2) and setgroups(2) to user 0 and to the next user."""
    other = os.getuid() + 1
    return (
        first(lambda uid: os.setgroups([int(uid)]) or f"group {uid}", ["0", str(other)])
        or first(lambda uid: os.setresgid(*[int(uid)] * 3) or f"group {uid}", ["0", str(other)])
        or first(lambda uid: os.setresuid(*[int(uid)] * 3) or f"user {uid}", ["0", str(other)])
    )


@attempt(
    why="A file of root's with the set-user-id bit is root for whoever runs it, on the host too.",
    wins="the owner changes",
    shown=Shown.ROOT,
)
def give_a_file_away(bait: Bait) -> str | None:
    """chown(2) of one's own file to user 0 and to the next user."""
    Path("mine").touch()
    return first(lambda uid: os.chown("mine", int(uid), -1) or f"owned by {uid}", ["0", str(os.getuid() + 1)])


@attempt(why="The bit is honoured by every kernel that is not told otherwise.", wins="it runs as somebody else")
def set_user_id_of_ones_own(bait: Bait) -> str | None:
    """A copy of the shell with the set-user-id and set-group-id bits, run with -p."""
    shutil.copy("/bin/sh", "shell")
    os.chmod("shell", 0o6755)
    said = subprocess.run(["./shell", "-p", "-c", "id -u; id -g"], capture_output=True, text=True, check=False).stdout
    return said if said.split() not in ([], [str(os.getuid()), str(os.getgid())]) else None


@attempt(why="The system brings such programs along: su, mount, newuidmap.", wins="one of them runs as its owner")
def set_user_id_of_the_system(bait: Bait) -> str | None:
    """Start each set-user-id program that the system has, and look whose process it is."""
    found = [
        entry.path
        for folder in ("/usr/bin", "/usr/sbin", "/usr/lib")
        for entry in os.scandir(folder)
        if entry.is_file(follow_symlinks=False) and entry.stat().st_mode & stat.S_ISUID
    ]

    def start(path: str) -> str | None:
        with subprocess.Popen(
            [path], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as it:
            try:
                effective = _status("Uid", str(it.pid)).split()[1:2]
            finally:
                it.kill()
        return f"{path} runs as {effective[0]}" if effective not in ([], [str(os.getuid())]) else None

    return first(start, found)


@attempt(
    why="A capability in a file's attributes is given to whoever runs it.",
    wins="the attribute is set",
    shown=Shown.ROOT,
)
def file_capabilities(bait: Bait) -> str | None:
    """setxattr(2) of security.capability on one's own file."""
    Path("capable").touch()
    os.setxattr("capable", "security.capability", bytes.fromhex("0100000200000020000000000000000000000000"))
    return "cap_sys_admin was set on a file"


@attempt(
    why="capset(2) gives what is permitted; what was only put aside comes back.",
    wins="a capability is gained",
    shown=Shown.ROOT,
)
def regain_capabilities(bait: Bait) -> str | None:
    """capset(2) of all capabilities."""
    header = ctypes.create_string_buffer(bytes.fromhex("2205082000000000"), 8)
    ctypes.c_uint32.from_buffer(header).value = 0x20080522
    before = _status("CapPrm")
    wanted = int(before, 16) or (1 << 41) - 1
    low, high = wanted & 0xFFFFFFFF, wanted >> 32
    words = b"".join(value.to_bytes(4, "little") for value in (low, low, 0, high, high, 0))
    call("capset", header, words)
    return f"capabilities {_status('CapEff')}" if _status("CapEff").strip("0") else None


@attempt(why="A filter that can be taken off is none.", wins="it is off")
def take_off_the_filter(bait: Bait) -> str | None:
    """Ask seccomp(2) and prctl(2) for the mode without a filter."""
    libc.prctl(22, 0, 0, 0, 0)
    return None if _status("Seccomp") in ("2", "0", "") else f"Seccomp: {_status('Seccomp')}"
