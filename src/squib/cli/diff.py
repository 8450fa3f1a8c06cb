"""`squib diff`."""

import sys

from squib.cli import connect, exits, options
from squib.cli.output import say, say_json
from squib.cli.patch import changes, coloured
from squib.cli.patch import stat as diffstat


def diff(
    task: str,
    /,
    *,
    stat: bool = False,
    json: options.Json = False,
) -> int:
    """Print a task's patch, exactly as it is kept.

    On a terminal it is coloured; in a pipe it is byte for byte what 'git apply' takes.

    Args:
        task: The task's id.
        stat: Print only which files it changes and by how much.
        json: Print the changed files and the patch as JSON.
    """
    with connect.client() as client:
        patch = client.tasks.diff(task)
    if json:
        say_json({"files": changes(patch), "patch": patch.decode("utf-8", "replace")})
    elif stat:
        for line in diffstat(patch):
            say(line)
    elif sys.stdout.isatty():
        say(coloured(patch).removesuffix("\n"))
    else:
        sys.stdout.buffer.write(patch)
    return exits.OK
