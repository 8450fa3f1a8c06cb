"""`squib files ls|cat|put`."""

import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from squib.cli import connect, exits, options
from squib.cli.list import age
from squib.cli.output import clean, note, say, say_json, table

app = App(name="files", default_parameter=options.COMMON, help="List, read and write files in a task's live sandbox.")
_PIECE = 256 * 1024


@app.command
def ls(task: str, path: str = ".", /, *, depth: int = 1, json: options.Json = False) -> int:
    """List a directory of the workspace.

    Args:
        task: The task's id.
        path: Relative to the workspace.
        depth: How many levels.
        json: Print the entries as JSON.
    """
    with connect.client() as client:
        found = client.tasks.list_files(task, path, depth=depth)
    if json:
        say_json(found)
        return exits.OK
    kinds = {"directory": stat.S_IFDIR, "link": stat.S_IFLNK, "file": stat.S_IFREG}
    rows = [
        [
            stat.filemode(kinds.get(entry.type, 0) | entry.mode & 0o777),
            str(entry.size),
            age(entry.mtime),
            clean(entry.path, lines=False),
        ]
        for entry in found.entries
    ]
    table(("mode", "size", "age", "path"), rows)
    if found.truncated:
        note("squib: there are more; name a directory further down")
    return exits.OK


@app.command
def cat(task: str, path: str, /, *, json: options.Json = False) -> int:
    """Print a file of the workspace, byte for byte (on a terminal, cleaned of what could act on it).

    Args:
        task: The task's id.
        path: Relative to the workspace.
        json: Print its path, size and text as JSON.
    """
    with connect.client() as client, tempfile.TemporaryFile() as kept:
        size = client.tasks.read_file(task, path, kept)
        kept.seek(0)
        if json:
            say_json({"path": path, "size": size, "text": kept.read().decode("utf-8", "replace")})
        elif sys.stdout.isatty():
            say(clean(kept.read().decode("utf-8", "replace")).removesuffix("\n"))
        else:
            for piece in iter(lambda: kept.read(_PIECE), b""):
                sys.stdout.buffer.write(piece)
    return exits.OK


@app.command
def put(
    task: str,
    path: str,
    source: Annotated[Path | None, Parameter(allow_leading_hyphen=True)] = None,
    /,
    *,
    json: options.Json = False,
) -> int:
    """Write a file of the workspace.

    Args:
        task: The task's id.
        path: Relative to the workspace; its directories are made.
        source: A local file; standard input where absent or '-'.
        json: Print the written file's entry as JSON.
    """
    with connect.client() as client:
        entry = client.tasks.write_file(task, path, _content(source))
    if json:
        say_json(entry)
    else:
        say(f"{clean(entry.path, lines=False)}, {entry.size} bytes")
    return exits.OK


def _content(source: Path | None) -> Iterator[bytes]:
    if source is None or str(source) == "-":
        yield from iter(lambda: sys.stdin.buffer.read(_PIECE), b"")
        return
    try:
        with source.open("rb") as file:
            yield from iter(lambda: file.read(_PIECE), b"")
    except OSError as error:
        raise exits.Usage(f"{source}: {error.strerror}", advice="Name a file that you may read.") from error
