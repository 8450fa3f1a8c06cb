"""Makes the attempts, each in a child of its own, and says how each one ended."""

import contextlib
import json
import os
import select
import signal
import sys
import time
from types import ModuleType
from typing import Any

from tests.conformance.escape.attempts import (
    calls,
    devices,
    files,
    mounts,
    neighbours,
    privileges,
    processes,
    settings,
    sockets,
)
from tests.conformance.escape.attempts.base import Attempt, Bait, Inapplicable, Neighbour

MODULES: tuple[ModuleType, ...] = (
    *(files, mounts, processes, settings, devices, privileges, calls, sockets, neighbours),
)
SECONDS = 30.0  # for one of them


def everything() -> dict[str, Attempt]:
    """All attempts by id, in the order of the files."""
    return {a.id: a for module in MODULES for a in vars(module).values() if isinstance(a, Attempt)}


def main() -> None:
    """Read the bait and the ids from standard input; write what became of each to standard output, as JSON."""
    order = json.load(sys.stdin)
    neighbour = order["bait"].pop("neighbour")
    lists = {name: tuple(value) if isinstance(value, list) else value for name, value in order["bait"].items()}
    bait = Bait(**lists, neighbour=Neighbour(**neighbour) if neighbour else None)
    known = everything()
    top = os.getcwd()
    for name in order["attempts"]:
        os.makedirs(f"attempt/{name}", exist_ok=True)
        os.chdir(f"attempt/{name}")
        began = time.monotonic()
        outcome = _make(known[name], bait)
        os.chdir(top)
        sys.stdout.write(json.dumps({"id": name, **outcome, "seconds": round(time.monotonic() - began, 2)}) + "\n")
        sys.stdout.flush()


def _make(attempt: Attempt, bait: Bait) -> dict[str, Any]:
    reader, writer = os.pipe()
    if (pid := os.fork()) == 0:
        os.close(reader)
        with contextlib.suppress(BaseException):
            os.write(writer, json.dumps(_try(attempt, bait)).encode()[:4000])
        os._exit(0)
    os.close(writer)
    said = _read(reader)
    os.close(reader)
    if said is None:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if said:
        return dict(json.loads(said))
    if said is None:
        return {"outcome": "broken", "detail": f"nothing happened for {SECONDS:.0f} s"}
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    if number in (signal.SIGSYS, signal.SIGSEGV):  # calls of 32 bits are a fault in gVisor
        return {"outcome": "held", "detail": signal.Signals(number).name}
    return {"outcome": "broken", "detail": f"ended with status {status:#x} and without a word"}


def _read(reader: int) -> bytes | None:
    """All that the child says until it ends; None where it does not."""
    said = b""
    while select.select([reader], [], [], SECONDS)[0]:
        if not (piece := os.read(reader, 4096)):
            return said
        said += piece
    return None


def _try(attempt: Attempt, bait: Bait) -> dict[str, Any]:
    try:
        evidence = attempt.run(bait)
    except Inapplicable as error:
        return {"outcome": "inapplicable", "detail": str(error)}
    except OSError as error:
        return {"outcome": "held", "detail": str(error)}
    except BaseException as error:
        return {"outcome": "broken", "detail": f"{type(error).__name__}: {error}"}
    return {"outcome": "won" if evidence else "held", "detail": evidence or "nothing to be had"}
