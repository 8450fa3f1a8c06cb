"""`python -m squib.cli.reference [DIRECTORY]` writes cli.md and settings.md, by default into docs/."""

import io
import sys
from collections.abc import Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_origin

from cyclopts import App
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from rich.console import Console

from squib.cli.app import build
from squib.settings import Settings

_NOTE = "<!-- Made by `make generate`; do not edit. -->\n\n"
_SETTINGS = """# Settings

A setting is an environment variable, or a key of the TOML file that SQUIB_CONFIG names; without that, of `squib.toml`
in the state directory where there is one. The environment wins over the file, an option of a command over both. A
name with a dot is a table's key: `sandbox.pool_size` is `SQUIB_SANDBOX__POOL_SIZE`, or

```toml
[sandbox]
pool_size = 4
```

Commands that only talk to a server read SQUIB_URL and SQUIB_TOKEN; without these they find the `squib up` of the same
user by the file `connection.json` in the state directory. NO_COLOR turns colours off.

"""


def cli_page() -> str:
    """docs/cli.md: what --help says of each command, from its docstring."""
    app = build()
    parts = ["# squib on the command line\n"]
    for path in _commands(app, ()):
        with io.StringIO() as text:
            app.help_print(list(path), console=Console(file=text, width=100, no_color=True))
            help_ = text.getvalue().partition("Exit status:")[0] if path else text.getvalue()
        lines = "\n".join(line.rstrip() for line in help_.strip().splitlines())
        parts.append(f"## `{' '.join(('squib', *path))}`\n\n```text\n{lines}\n```\n")
    return _NOTE + "\n".join(parts)


def _commands(app: App, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The paths of all commands below `app`, itself first, in the order of the help."""
    yield path
    names = [name for name in app if not name.startswith("-")]
    for name in names:
        yield from _commands(app[name], (*path, name))


def settings_page() -> str:
    """docs/settings.md, from the fields' docstrings."""
    return _NOTE + _SETTINGS + "\n".join(_entries(Settings, ())) + "\n"


def _entries(kind: type[BaseModel], path: tuple[str, ...]) -> Iterator[str]:
    for name, field in kind.model_fields.items():
        here = (*path, name)
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _entries(inner, here)
            continue
        yield f"## `{'.'.join(here)}`\n"
        yield f"`SQUIB_{'__'.join(here).upper()}`, {_type(inner)}{_bounds(field)}{_default(field)}\n"
        yield f"{' '.join((field.description or '').split())}\n"


def _type(kind: Any) -> str:
    """A type as a person would say it."""
    arguments = [argument for argument in get_args(kind) if argument is not type(None)]
    if get_origin(kind) is list:
        return "a list of texts (JSON in the environment)"
    if get_origin(kind) is dict:
        return "tables of texts (`SQUIB_AGENTS__NAME__KEY` in the environment)"
    if arguments and all(isinstance(argument, str) for argument in arguments):
        return "one of " + ", ".join(f"`{argument}`" for argument in arguments)
    if arguments:
        return _type(arguments[0])
    return {int: "a whole number", float: "a number", Path: "a path", SecretStr: "a secret"}.get(kind, "text")


def _bounds(field: FieldInfo) -> str:
    found = {
        name: getattr(item, name) for item in field.metadata for name in ("ge", "gt", "le") if hasattr(item, name)
    }
    if not found:
        return ""
    least = f"{found['ge']}" if "ge" in found else f"more than {found['gt']}"
    return f" from {least} to {found['le']}"


def _default(field: FieldInfo) -> str:
    value = field.default
    if value is None or value is PydanticUndefined:
        return "."
    return f"; default `{value.value if isinstance(value, Enum) else value}`."


def main(arguments: Sequence[str]) -> None:
    """Write both."""
    directory = Path(arguments[0]) if arguments else Path("docs")
    (directory / "cli.md").write_text(cli_page(), encoding="utf-8")
    (directory / "settings.md").write_text(settings_page(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
