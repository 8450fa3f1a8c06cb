"""Command lines as Firecracker's own parser reads them: long options, a value in the next word, no `=`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


class BadArguments(Exception):
    """A command line that is not understood; Firecracker then ends with status 153, the jailer with 1."""


@dataclass(frozen=True)
class Option:
    """One option. `value`: it takes one; `many`: it may come again; `requires`/`forbids` name another."""

    value: bool = True
    many: bool = False
    required: bool = False
    requires: str = ""
    forbids: str = ""


@dataclass
class Arguments:
    """What was given: all values of each option (none for a flag), and the words after `--`."""

    given: dict[str, list[str]] = field(default_factory=dict)
    rest: list[str] = field(default_factory=list)

    def one(self, name: str, default: str | None = None) -> str | None:
        """The option's value."""
        return self.given[name][-1] if self.given.get(name) else default

    def flag(self, name: str) -> bool:
        """Whether the option was given."""
        return name in self.given


def parse(words: Sequence[str], options: Mapping[str, Option]) -> Arguments:
    """Read the words. `--help` and `--version` hide all else. Raises BadArguments."""
    cut = list(words).index("--") if "--" in words else len(words)
    found = Arguments(rest=list(words[cut + 1 :]))
    own = list(words[:cut])
    for name, texts in (("help", ("--help", "-h")), ("version", ("--version",))):
        if any(text in own for text in texts):
            return Arguments({name: []}, found.rest)
    while own:
        _take(own, options, found)
    _consistent(options, found)
    return found


def _take(own: list[str], options: Mapping[str, Option], found: Arguments) -> None:
    word = own.pop(0)
    option = options.get(word.removeprefix("--")) if word.startswith("--") else None
    if option is None:
        name = word.removeprefix("--")
        raise BadArguments(f"Found argument '{name}' which wasn't expected, or isn't valid in this context.")
    name = word.removeprefix("--")
    if name in found.given and not option.many:
        raise BadArguments(f"The argument '{name}' was provided more than once.")
    values = found.given.setdefault(name, [])
    if option.value:
        if not own or own[0].startswith("--"):
            raise BadArguments(f"The argument '{name}' requires a value, but none was supplied.")
        values.append(own.pop(0))


def _consistent(options: Mapping[str, Option], found: Arguments) -> None:
    for name, option in sorted(options.items()):
        if option.required and name not in found.given:
            raise BadArguments(f"Argument '{name}' required, but not found.")
        if name in found.given and option.requires and option.requires not in found.given:
            raise BadArguments(f"Argument '{option.requires}' required, but not found.")
        if name in found.given and option.forbids in found.given:
            raise BadArguments(f"Argument '{option.forbids}' cannot be used together with argument '{name}'.")


def bad_id(text: str) -> str | None:
    """What is wrong with an instance's id, in the real one's words."""
    if not 1 <= len(text) <= 64:
        return f"Invalid len ({len(text)});  the length must be between 1 and 64"
    wrong = next(((i, c) for i, c in enumerate(text) if not (c == "-" or c.isalnum())), None)
    return None if wrong is None else f"Invalid char ({wrong[1]}) at position {wrong[0]}"
