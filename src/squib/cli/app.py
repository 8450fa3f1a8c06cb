"""`squib`: the registry of commands, and what happens around each of them."""

import io
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError, Group

from squib import __version__
from squib.cli import exits, options

_TASKS = Group("Tasks", sort_key=1)
_SANDBOX = Group("A task's sandbox", sort_key=2)
_SERVER = Group("The server", sort_key=3)

#: Name, where it is, its summary (the first line of its docstring; a test compares), its group.
COMMANDS: tuple[tuple[str, str, str, Group], ...] = (
    ("run", "squib.cli.run:run", "Submit a task, follow it, and say what to do with the result.", _TASKS),
    ("list", "squib.cli.list:list_", "List tasks, newest first.", _TASKS),
    ("show", "squib.cli.show:show", "Show a task: its state, its result, what is kept of it.", _TASKS),
    ("events", "squib.cli.events:events", "Print a task's events.", _TASKS),
    ("send", "squib.cli.send:send", "Give a task one more turn in the same sandbox.", _TASKS),
    ("cancel", "squib.cli.cancel:cancel", "Ask for a task's end.", _TASKS),
    ("retry", "squib.cli.retry:retry", "Start an ended task again as a new one.", _TASKS),
    ("diff", "squib.cli.diff:diff", "Print a task's patch, exactly as it is kept.", _TASKS),
    ("apply", "squib.cli.apply:apply", "Bring a task's result into a local repository as a branch.", _TASKS),
    ("shell", "squib.cli.shell:shell", "Open a terminal in a task's live sandbox.", _SANDBOX),
    ("files", "squib.cli.files:app", "List, read and write files in a task's live sandbox.", _SANDBOX),
    ("up", "squib.cli.up:up", "Start squib, all roles in one process, and stay until Ctrl-C.", _SERVER),
    (
        "doctor",
        "squib.cli.doctor:doctor",
        "Say what works on this machine, and what to do where it does not.",
        _SERVER,
    ),
    ("image", "squib.cli.image:app", "Make, import and list the images of sandboxes.", _SERVER),
    (
        "snapshot",
        "squib.cli.snapshot:app",
        "Freeze warm machines, from which sandboxes start in a fraction of a boot.",
        _SERVER,
    ),
    ("kernel", "squib.cli.kernel:app", "The kernel that sandboxes with one of their own start.", _SERVER),
    ("token", "squib.cli.token:app", "Make, list and revoke access tokens.", _SERVER),
    ("api", "squib.cli.roles:api", "Start the API alone, beside schedulers, on PostgreSQL.", _SERVER),
    (
        "scheduler",
        "squib.cli.roles:scheduler",
        "Start a scheduler with its sandboxes, beside an API, on PostgreSQL.",
        _SERVER,
    ),
    (
        "host",
        "squib.cli.roles:host",
        "Start a host: sandboxes alone, for schedulers elsewhere that name it by SQUIB_HOST_URL.",
        _SERVER,
    ),
)

_STATUSES = (
    (exits.OK, "good"),
    (exits.FAILED, "the task did not succeed, or something does not work"),
    (exits.USAGE, "wrong usage"),
    (exits.CONNECTION, "no connection to a server, or not authenticated"),
    (exits.NOT_FOUND, "not found"),
    (exits.REFUSED, "refused as things stand"),
    (exits.SERVER, "trouble on the server's side"),
    (exits.FAULT, "a fault in squib itself"),
    (exits.INTERRUPTED, "Ctrl-C"),
)


def epilogue() -> str:
    """What each exit status means, for the end of the help."""
    return "Exit status:\n" + "\n".join(f"  {code:<5}{meaning}" for code, meaning in _STATUSES)


def build() -> App:
    """Make the application; commands are imported when they are named."""
    app = App(
        name="squib",
        help="A self-hosted AI software engineer: tasks in, commits out, every one in its own sandbox.",
        version=__version__,
        help_epilogue=epilogue(),
        help_format="plaintext",  # markdown would cost a quarter of the start-up time
        default_parameter=options.COMMON,
        print_error=False,
        exit_on_error=False,
        help_on_error=False,
        suppress_keyboard_interrupt=False,
        result_action="return_value",
    )
    for order, (name, path, summary, group) in enumerate(COMMANDS):
        app.command(path, name=name, help=summary, group=group, sort_key=order)
    return app


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # where the locale lacks a character
    sys.exit(exits.guarded(lambda: _run(arguments), as_json="--json" in arguments))


def _run(arguments: list[str]) -> int:
    app = build()
    try:
        result = app(arguments)
    except CycloptsError as error:
        error.verbose = False
        raise exits.Usage(str(error).strip(), advice="'squib --help' and 'squib COMMAND --help' say more.") from error
    return result if isinstance(result, int) else exits.OK
