"""The OCI bundle of a gVisor machine: what it sees, and what runs in it first."""

import functools
import json
import secrets
from collections.abc import Sequence
from pathlib import Path

from squib.contracts.guest import GuestConfig
from squib.contracts.machine import Machine
from squib.host import interpreters, seccomp
from squib.host.drivers import inside, oci, sandbox, view
from squib.host.ground import Ground
from squib.host.layout import MachineDir

NOT_SUPPORTED = ("lgetxattr", "llistxattr")  # on a link gVisor answers EBADF, which makes `ls -l` fail
CAPABILITIES = ("CAP_CHOWN", "CAP_SETUID", "CAP_SYS_ADMIN")  # over gVisor's own kernel: see `inside`


def arguments(python: str, *program: str) -> tuple[str, ...]:
    """What process 1 is: `program` and its arguments, run by `python` once it is confined."""
    return (python, *interpreters.FLAGS, f"{sandbox.CONFIG}/inside.py", f"{sandbox.CONFIG}/filter", *program)


def write(ground: Ground, machine: Machine, config: GuestConfig, argv: Sequence[str]) -> Path:
    """Leave the bundle in the machine's directory, and beside it what its first process reads.

    Its name has the directory's /config in it, by which strays are found (`ground`).
    Raises seccomp.Unavailable or OSError.
    """
    place = MachineDir(Path(machine.directory))
    leave(place.config / "inside.py", Path(inside.__file__).read_bytes())
    leave(place.config / "filter", system_call_filter())
    bundle = place.root / "config.oci"
    bundle.mkdir()
    bundle.chmod(0o755)
    entries = [*view.of_root(machine.spec.image), *view.of_machine(ground, machine, config)]
    accounts = dict(zip(("/etc/passwd", "/etc/group", "/etc/hosts"), sandbox.accounts(config.hostname), strict=True))
    accounts["/etc/machine-id"] = f"{secrets.token_hex(16)}\n".encode()
    view.build(bundle / "root", entries, oci.DIRECTORIES, accounts)
    document = oci.document(machine.spec, config, argv, entries, capabilities=CAPABILITIES)
    leave(bundle / "config.json", json.dumps(document).encode())
    return bundle


@functools.cache
def system_call_filter() -> bytes:
    """What the guest must not ask of gVisor's kernel, compiled once. Raises seccomp.Unavailable."""
    return seccomp.program(NOT_SUPPORTED)


def leave(path: Path, content: bytes) -> None:
    """Write what the machine's user is to read, whatever this process's umask is and whatever was there."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    path.chmod(0o444)
