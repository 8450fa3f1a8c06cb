"""Types of options that several commands share, and how their text is read."""

import re
from collections.abc import Sequence
from typing import Annotated, Any

from cyclopts import Parameter, Token

from squib.cli.exits import Usage

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


def seconds(text: str) -> int:
    """Read a duration such as 90, 90s, 10m, 2h or 1d. Raises ValueError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no duration: use 90s, 10m, 2h or 1d")
    return round(float(found[1]) * _UNITS[found[2]])


def _duration(_: Any, tokens: Sequence[Token]) -> int:
    return seconds(tokens[0].value)


def pairs(labels: Sequence[str]) -> dict[str, str]:
    """Read labels of the form KEY=VALUE. Raises Usage."""
    found = {}
    for text in labels:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise Usage(f"--label: {text!r} is not of the form KEY=VALUE", fields={"label": "must be KEY=VALUE"})
        found[key] = value
    return found


Json = Annotated[bool, Parameter("--json")]
Duration = Annotated[int, Parameter(converter=_duration, n_tokens=1, metavar="TIME")]
Labels = Annotated[tuple[str, ...], Parameter("--label", metavar="KEY=VALUE")]
#: How every command takes its options: flags have no opposite, and the docstrings tell of defaults.
COMMON = Parameter(negative=(), show_default=False)
