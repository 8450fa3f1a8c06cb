"""Which of a kernel's modules have to be loaded for some, and in which order.

A package that was only unpacked has no `modules.dep`: each module tells itself what it depends on.
"""

import re
from pathlib import Path

from squib.contracts.errors import ImageError

_DEPENDS = re.compile(rb"\0depends=([a-z0-9_,-]*)\0")


def in_order(tree: Path, wanted: tuple[str, ...]) -> list[Path]:
    """The files to load, each after those that it depends on; what is built into the kernel is left out.

    `tree` is /lib/modules/VERSION of the package. Raises ImageError where one is missing.
    """
    files = {_name(path.name): path for path in sorted(tree.glob("kernel/**/*.ko"))}
    builtin = {_name(line.rpartition("/")[2]) for line in (tree / "modules.builtin").read_text().split()}
    found: dict[str, Path] = {}

    def add(name: str) -> None:
        if name in builtin or name in found:
            return
        if name not in files:
            raise ImageError(f"the kernel's package has no module {name}")
        for other in _depends(files[name]):
            add(other)
        found[name] = files[name]

    for name in wanted:
        add(name)
    return list(found.values())


def _depends(path: Path) -> list[str]:
    """The names in the module's own `depends=` line (modinfo(8))."""
    line = _DEPENDS.search(path.read_bytes())
    return [_name(name) for name in line[1].decode().split(",") if name] if line else []


def _name(text: str) -> str:
    return text.removesuffix(".ko").replace("-", "_")
