"""A PostgreSQL of our own for a while: a fresh cluster with default durability, on a unix socket, gone afterwards."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path


def programs() -> Path | None:
    """Where initdb and postgres are: the newest that is installed."""
    if found := shutil.which("initdb"):
        real = Path(found).resolve()
        if real.with_name("postgres").exists():
            return real.parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    return versions[-1].parent if versions else None


@contextlib.contextmanager
def cluster() -> Iterator[str]:
    """Start one and give its URL. It refuses root, so that root starts it as nobody."""
    where = programs()
    assert where is not None, "no PostgreSQL server is installed"
    directory = Path(tempfile.mkdtemp(prefix="sqpg-", dir="/tmp"))
    drop = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--"] if os.geteuid() == 0 else []
    if drop:
        os.chown(directory, 65534, 65534)
    data = directory / "data"
    init = [*drop, str(where / "initdb"), "-D", str(data), "-A", "trust", "-U", "squib", "--no-sync", "-E", "UTF8"]
    server = [*drop, str(where / "postgres"), "-D", str(data), "-k", str(directory), "-c", "listen_addresses="]
    clean = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    try:
        subprocess.run(init, check=True, stdout=subprocess.DEVNULL, cwd="/", env=clean)
        with (directory / "log").open("wb") as log:
            process = subprocess.Popen([*server, "-c", "max_connections=200"], stderr=log, cwd="/", env=clean)
        try:
            ready = [str(where / "pg_isready"), "-q", "-h", str(directory)]
            while subprocess.run(ready, check=False).returncode != 0:
                assert process.poll() is None, (directory / "log").read_text()
            yield f"postgresql://squib@/postgres?host={directory}"
        finally:
            process.send_signal(3)  # SIGQUIT: end now, the data is thrown away
            process.wait()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
