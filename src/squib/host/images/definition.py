"""What an image is to be: `images/NAME.toml`, read and checked."""

import re
import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import squib
from squib.contracts import codec
from squib.contracts.errors import InvalidRequest, NotFound
from squib.contracts.image import check_name

#: In every image: what runs the supervisor, fetches nothing by itself, and what agents reach for first.
COMMON = (
    *("ca-certificates", "git", "openssh-client", "python3", "procps"),
    *("curl", "jq", "less", "patch", "ripgrep", "unzip", "xz-utils"),
)
_PINNED = re.compile(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!+_-]+")
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]*(:[a-z0-9]+)?(=[A-Za-z0-9.+~:-]+)?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Definition:
    """An image's definition. Paths in the image are absolute; paths of sources are relative to the file."""

    summary: str
    suite: str = "bookworm"  # of Debian or a relative of it
    packages: tuple[str, ...] = ()  # of apt, beyond COMMON
    files: dict[str, str] = field(default_factory=dict)  # where in the image: a file or directory beside this one
    pip: tuple[str, ...] = ()  # NAME==VERSION, every dependency named: nothing else is installed
    npm: tuple[str, ...] = ()  # directories in the image with package.json and package-lock.json
    links: dict[str, str] = field(default_factory=dict)  # where in the image: what it points to
    commands: tuple[str, ...] = ()  # of the shell, after the rest, with the network still there
    warmup: tuple[str, ...] = ()  # of the shell, without network; each must succeed
    environment: dict[str, str] = field(default_factory=dict)
    name: str = ""  # the file's
    folder: str = ""  # the file's

    def __post_init__(self) -> None:
        _check(re.fullmatch(r"[a-z][a-z0-9.-]*", self.suite) is not None, "suite", "is no suite's name")
        for package in self.packages:
            _check(_PACKAGE.fullmatch(package) is not None, "packages", f"{package!r} is no package's name")
        for pin in self.pip:
            _check(_PINNED.fullmatch(pin) is not None, "pip", f"{pin!r} is not of the form NAME==VERSION")
        for table, path in [*(("npm", p) for p in self.npm), *(("files", p) for p in self.files)]:
            _check(_inside(path), table, f"{path!r} is no absolute path without '..'")
        for path in self.links:
            _check(_inside(path), "links", f"{path!r} is no absolute path without '..'")
        for source in self.files.values():
            relative = not source.startswith("/") and ".." not in PurePosixPath(source).parts
            _check(relative, "files", f"{source!r} must lie beside the definition")
        for variable in self.environment:
            _check(_VARIABLE.fullmatch(variable) is not None, "environment", f"{variable!r} is no variable's name")

    @property
    def all_packages(self) -> tuple[str, ...]:
        """Of apt, each once."""
        return tuple(dict.fromkeys((*COMMON, *self.packages)))


def _inside(path: str) -> bool:
    return path.startswith("/") and path != "/" and ".." not in PurePosixPath(path).parts


def _check(condition: bool, field_name: str, message: str) -> None:
    if not condition:
        raise InvalidRequest(f"{field_name}: {message}", fields={field_name: message})


def folder() -> Path:
    """Where squib's own definitions lie: in the package where it was installed, else beside the sources."""
    package = Path(squib.__file__).parent
    return package / "images" if (package / "images").is_dir() else package.parents[1] / "images"


def names() -> list[str]:
    """The definitions that squib brings."""
    return sorted(path.stem for path in folder().glob("*.toml"))


def load(name_or_path: str) -> Definition:
    """The definition of that name, or in that file. Raises NotFound or InvalidRequest, which names the field."""
    path = Path(name_or_path) if name_or_path.endswith(".toml") else folder() / f"{check_name(name_or_path)}.toml"
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = ", ".join(names())
        raise NotFound(
            f"there is no image definition {name_or_path}", advice=f"Name a .toml file, or one of {known}."
        ) from None
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"{path} can't be read: {error}", advice="Correct the file.") from error
    try:
        definition = codec.decode(Definition, document)
        return replace(definition, name=check_name(path.stem), folder=str(path.parent.absolute()))
    except InvalidRequest as error:
        raise InvalidRequest(f"{path}: {error.detail}", advice="Correct the file.", fields=error.fields) from error
