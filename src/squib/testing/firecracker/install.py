"""`python -m squib.testing.firecracker.install DIRECTORY` writes the two programs, `firecracker` and `jailer`.

Each is one file that any system's Python runs: the jailer copies the other one into jails.
"""

import sys
import zipfile
from pathlib import Path

import squib

PYTHON = "/usr/bin/python3"
_MAINS = {"firecracker": "vmm", "jailer": "jailer"}


def install(directory: Path, python: str = PYTHON) -> tuple[Path, Path]:
    """Write the programs into a directory; gives their paths, Firecracker's first."""
    made = []
    for name, module in _MAINS.items():
        path = directory / name
        with path.open("wb") as file:
            file.write(f"#!{python} -IS\n".encode())
            with zipfile.ZipFile(file, "w") as archive:
                archive.writestr("__main__.py", _main(module))
                for inner, source in _sources().items():
                    archive.writestr(inner, source)
        path.chmod(0o755)
        made.append(path)
    return made[0], made[1]


def _main(module: str) -> str:
    return f"import sys\n\nfrom squib.testing.firecracker.{module} import main\n\nsys.exit(main(sys.argv[1:]))\n"


def _sources() -> dict[str, bytes]:
    root = Path(squib.__file__).parent
    packages = [root / "__init__.py", root / "testing" / "__init__.py"]
    paths = [*packages, *sorted((root / "testing" / "firecracker").glob("*.py"))]
    return {str(path.relative_to(root.parent)): path.read_bytes() for path in paths}


if __name__ == "__main__":
    for program in install(Path(sys.argv[1])):
        print(program)  # noqa: T201
