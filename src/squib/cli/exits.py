"""Exit statuses, and how an error is told: one plain line and advice on stderr, never a traceback."""

import json
import os
import sys
import traceback
from collections.abc import Callable

from squib.cli.output import clean
from squib.contracts.errors import (
    Conflict,
    Forbidden,
    ImageError,
    InfrastructureError,
    InvalidRequest,
    NotFound,
    RepositoryError,
    SquibError,
    TooLarge,
    TooManyRequests,
    Unauthenticated,
)

OK, FAILED, USAGE, CONNECTION, NOT_FOUND, REFUSED, SERVER = 0, 1, 2, 3, 4, 5, 6
FAULT, PIPE, INTERRUPTED = 70, 141, 130


class Usage(InvalidRequest):
    """The command line is wrong."""


class NoConnection(SquibError):
    """No server is known, or none answers."""

    code, status, title = "no_connection", 503, "No connection"
    default_advice = "Start one with 'squib up', or name one by SQUIB_URL and SQUIB_TOKEN."


class Refused(Conflict):
    """The command would do harm, or can't be done as things stand here."""

    code, title = "refused", "Refused"


_STATUS: tuple[tuple[type[SquibError], int], ...] = (
    (NoConnection, CONNECTION),
    (Unauthenticated, CONNECTION),
    (Forbidden, CONNECTION),
    (NotFound, NOT_FOUND),
    (InvalidRequest, USAGE),
    (RepositoryError, REFUSED),
    (ImageError, FAILED),
    (TooLarge, REFUSED),
    (Conflict, REFUSED),
    (TooManyRequests, SERVER),
    (InfrastructureError, SERVER),
)


def status(error: SquibError) -> int:
    """The exit status for an error."""
    if error.code == "unreachable":
        return CONNECTION
    return next((code for kind, code in _STATUS if isinstance(error, kind)), SERVER)


def guarded(command: Callable[[], int], *, as_json: bool = False) -> int:
    """Run a command and turn whatever it raises into a message and an exit status."""
    try:
        code = _ungrouped(command)
        sys.stdout.flush()
        return code
    except SquibError as error:
        _tell(error, as_json)
        return status(error)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # whoever read our output has left: nothing more to say, and nothing may be flushed at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE
    except Exception as error:
        if os.environ.get("SQUIB_LOG_LEVEL", "").lower() == "debug":
            traceback.print_exc()
        advice = "Please report it, with what SQUIB_LOG_LEVEL=debug shows."
        _tell(SquibError(f"a fault in squib: {type(error).__name__}: {error}", advice=advice), as_json)
        return FAULT


def _ungrouped(command: Callable[[], int]) -> int:
    """Run it; of a group of errors, the first is the cause: the others are what it ended."""
    try:
        return command()
    except BaseExceptionGroup as group:
        cause: BaseException = group
        while isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        raise cause from group


def _tell(error: SquibError, as_json: bool) -> None:
    if as_json:
        sys.stderr.write(json.dumps(error.problem()) + "\n")
        return
    sys.stderr.write(f"squib: {clean(error.detail, lines=False)}\n")
    if error.advice:
        sys.stderr.write(f"       {clean(error.advice, lines=False)}\n")
