"""Programs of an image, run on this machine as a user without rights, in namespaces of their own.

While an image is made its packages' own code runs (npm, pip, commands of the definition): it sees the image, which
it may change, a scratch directory and the network. Once the image is made, what is tried out sees no network, and
can change nothing.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from squib.contracts.errors import ImageError
from squib.host.images.runner import Progress, run
from squib.host.images.tidy import AGENT, HOME

_CERTIFICATES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
_CERTIFICATE_VARIABLES = ("SSL_CERT_FILE", "PIP_CERT", "NODE_EXTRA_CA_CERTS", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO")
#: How this machine reaches registries, where it has its own way.
_NETWORK = (
    *("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "PIP_INDEX_URL"),
    *("PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "NPM_CONFIG_REGISTRY", "npm_config_registry", "GOPROXY"),
)
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ADVICE = "bubblewrap does not work here: 'squib doctor' says what it needs."


class Confined:
    """Runs commands in the root file system at `root` as the host's user `user`."""

    def __init__(self, root: Path, scratch: Path, user: int, progress: Progress):
        self._root = root
        self._scratch = scratch
        self._user = user
        self._progress = progress

    async def make(self, command: str, what: str, environment: Mapping[str, str]) -> None:
        """Run a shell command that may change the image and reach the network. Raises ImageError."""
        binds = ["--bind", str(self._root), "/", *_ground(), "--tmpfs", "/run", *_network()]
        binds += ["--bind", str(self._scratch), "/tmp"]
        variables = {"PATH": PATH, "HOME": "/tmp/home", "LANG": "C.UTF-8", **_variables(), **environment}
        await self._run([*binds, "--chdir", "/"], command, what, variables)

    async def try_out(self, command: str, what: str, environment: Mapping[str, str]) -> None:
        """Run a shell command as an agent would, without network, changing nothing. Raises ImageError."""
        binds = ["--unshare-net", "--ro-bind", str(self._root), "/", *_ground()]
        binds += [part for place in ("/run", "/tmp", HOME, "/workspace") for part in ("--tmpfs", place)]
        variables = {"PATH": PATH, "HOME": HOME, "LANG": "C.UTF-8", **environment}
        await self._run([*binds, "--chdir", "/workspace"], command, what, variables)

    async def _run(self, binds: list[str], command: str, what: str, variables: Mapping[str, str]) -> None:
        argv = ["bwrap", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv", "--unshare-user"]
        argv += ["--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup", "--hostname", "image"]
        argv += ["--uid", str(AGENT), "--gid", str(AGENT), *binds]
        argv += [part for name, value in variables.items() for part in ("--setenv", name, value)]
        argv += ["--", "/bin/sh", "-c", command]
        try:
            await run(argv, self._progress, what, user=self._user)
        except ImageError as error:
            if "\nbwrap: " in error.detail:
                raise ImageError(error.detail, advice=_ADVICE) from error
            raise


def _ground() -> tuple[str, ...]:
    return ("--proc", "/proc", "--dev", "/dev")


def _network() -> Iterator[str]:
    """How names are resolved and which certificates are trusted: this machine's, while the image is made."""
    for path in ("/etc/resolv.conf", "/etc/hosts"):
        if Path(path).exists():
            yield from ("--ro-bind", str(Path(path).resolve()), path)
    if certificates := _certificates():
        yield from ("--ro-bind", certificates, "/run/certificates.crt")


def _certificates() -> str | None:
    named = os.environ.get("SSL_CERT_FILE", "")
    return next((str(Path(p).resolve()) for p in (named, *_CERTIFICATES) if p and Path(p).is_file()), None)


def _variables() -> dict[str, str]:
    found = {name: os.environ[name] for name in _NETWORK if name in os.environ}
    if _certificates():
        found |= dict.fromkeys(_CERTIFICATE_VARIABLES, "/run/certificates.crt")
    return found
