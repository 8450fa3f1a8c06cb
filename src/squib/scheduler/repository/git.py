"""The one place that runs git: hardened, bounded in time, memory and file size, ended with its whole group."""

import asyncio
import contextlib
import os
import re
import shutil
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from squib.contracts.errors import InfrastructureError, RepositoryError

#: Never a work tree, hook, filter, helper, redirect, submodule or background job.
_SETTINGS = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.attributesFile=/dev/null",
    "core.bigFileThreshold=32m",
    "core.packedGitLimit=1g",
    "credential.helper=",
    "protocol.allow=never",
    "protocol.https.allow=always",
    "fetch.recurseSubmodules=false",
    "fetch.fsckObjects=true",
    "fetch.unpackLimit=1",
    "transfer.bundleURI=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "http.followRedirects=false",
    "http.lowSpeedLimit=1000",
    "http.lowSpeedTime=30",
    "safe.bareRepository=explicit",
)
#: Slips of old clients that well-known repositories carry, and that can hurt nobody.
HARMLESS = ("badTimezone", "missingSpaceBeforeDate", "missingSpaceBeforeEmail", "zeroPaddedFilemode")
_ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/nonexistent",
    "XDG_CONFIG_HOME": "/nonexistent",
    "LC_ALL": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_PROTOCOL_FROM_USER": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "/bin/false",
    "SSH_ASKPASS": "/bin/false",
    "GIT_SSH_COMMAND": "/bin/false",
    "GIT_PROXY_COMMAND": "/bin/false",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_PAGER": "cat",
}
#: ulimit counts file sizes in blocks of 512 bytes, address space in KiB; positional: file blocks, address space.
_BOUNDED = 'ulimit -c 0; ulimit -f "$1"; ulimit -v "$2"; shift 2; exec "$@"'
_MAX_STDOUT = 16 * 1024 * 1024
_MAX_STDERR = 64 * 1024
_TERM_SECONDS = 2.0
_MANY_PACKS = 40
_COMMIT = re.compile(r"[0-9a-f]{40}")


def is_commit(text: str | None) -> bool:
    """Say whether `text` is a full SHA-1 object name: check before it becomes an argument."""
    return text is not None and _COMMIT.fullmatch(text) is not None


class GitFailed(RepositoryError):
    """git ended with a status other than 0; `detail` is the last thing that it said."""


@dataclass(frozen=True, slots=True)
class Git:
    """How git is run. `protocols` is what a fetch may use; `ca_info` a file of further trusted certificates."""

    protocols: str = "https"
    ca_info: Path | None = None
    seconds: float = 300.0
    max_file_bytes: int = 4 * 1024**3
    max_memory_bytes: int = 6 * 1024**3

    async def run(
        self,
        git_dir: Path,
        *arguments: str,
        stdin: bytes | int | None = None,
        stdout: int | None = None,
        network: bool = False,
        env: dict[str, str] | None = None,
    ) -> bytes:
        """Run git in a bare repository; its standard output, at most 16 MiB, or b"" where `stdout` is given.

        Raises GitFailed for a status other than 0 and for a bound that was hit, InfrastructureError without git.
        """
        source = asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE
        async with self._process(
            self._command(git_dir, arguments, network),
            stdin=stdin if isinstance(stdin, int) else source,
            stdout=asyncio.subprocess.PIPE if stdout is None else stdout,
            env=self._environment(network) | (env or {}),
        ) as process:
            try:
                async with asyncio.timeout(self.seconds):
                    output, noise = await _communicate(process, stdin if isinstance(stdin, bytes) else None)
            except TimeoutError:
                raise GitFailed(f"git {arguments[0]} took longer than {self.seconds:g} seconds") from None
        if process.returncode != 0:
            raise GitFailed(_reason(arguments[0], process.returncode or 0, noise))
        return output

    async def text(self, git_dir: Path, *arguments: str) -> str:
        """Run git and return its output as stripped text."""
        return (await self.run(git_dir, *arguments)).decode("utf-8", "replace").strip()

    async def init(self, git_dir: Path) -> None:
        """Make an empty bare repository, or clear the one that is there of what a killed git left in it.

        It appears whole or not at all. No template: no hook, no configuration. Only the repository's one user may
        call this, because locks are taken for leftovers.
        """
        if await asyncio.to_thread(_cleared, git_dir):
            return
        new = git_dir.with_name(git_dir.name + ".new")
        await self.run(git_dir, "init", "--quiet", "--bare", "--template=", "--initial-branch=none", str(new))
        await asyncio.to_thread(new.replace, git_dir)

    async def tidy(self, git_dir: Path) -> None:
        """Join small packs once there are many; a git that can't is as good."""
        packs = await asyncio.to_thread(lambda: len(list(git_dir.glob("objects/pack/*.pack"))))
        if packs > _MANY_PACKS:
            with contextlib.suppress(GitFailed):
                await self.run(git_dir, "repack", "-d", "-q", "--geometric=2", "--no-write-bitmap-index")

    def _command(self, git_dir: Path, arguments: tuple[str, ...], network: bool) -> list[str]:
        settings = [*_SETTINGS, *(f"fetch.fsck.{name}=ignore" for name in HARMLESS)]
        if network and "file" in self.protocols.split(":"):
            settings.append("protocol.file.allow=always")
        options = [part for setting in settings for part in ("-c", setting)]
        blocks, memory = str(self.max_file_bytes // 512), str(self.max_memory_bytes // 1024)
        target = [] if arguments[0] == "init" else [f"--git-dir={git_dir}"]
        return ["/bin/sh", "-c", _BOUNDED, "sh", blocks, memory, "git", *options, *target, *arguments]

    def _environment(self, network: bool) -> dict[str, str]:
        allowed = {"GIT_ALLOW_PROTOCOL": self.protocols if network else "none"}
        trusted = {"GIT_SSL_CAINFO": str(self.ca_info)} if network and self.ca_info else {}
        return _ENVIRONMENT | allowed | trusted

    @contextlib.asynccontextmanager
    async def _process(
        self, command: list[str], *, stdin: int, stdout: int, env: dict[str, str]
    ) -> AsyncIterator[asyncio.subprocess.Process]:
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=stdin,
                stdout=stdout,
                stderr=asyncio.subprocess.PIPE,
                env=env,
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            raise InfrastructureError(f"git can't be started: {error}", advice="Install git.") from error
        try:
            yield process
        finally:
            await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    """End the group, should it still run: SIGTERM first, at which git removes its locks and half-made files."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), _TERM_SECONDS)


def _cleared(git_dir: Path) -> bool:
    """Remove half-written packs and stale locks; False where there is no repository."""
    git_dir.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(git_dir.with_name(git_dir.name + ".new"), ignore_errors=True)
    if not (git_dir / "HEAD").exists():
        return False
    for pattern in ("objects/pack/tmp_*", "*.lock", "refs/**/*.lock"):
        for path in git_dir.glob(pattern):
            path.unlink(missing_ok=True)
    return True


async def _communicate(process: asyncio.subprocess.Process, stdin: bytes | None) -> tuple[bytes, bytes]:
    async def feed() -> None:
        if stdin is not None and process.stdin is not None:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                process.stdin.write(stdin)
                await process.stdin.drain()
            process.stdin.close()

    _, output, noise, _ = await asyncio.gather(
        feed(), _read(process.stdout, _MAX_STDOUT, strict=True), _read(process.stderr, _MAX_STDERR), process.wait()
    )
    return output, noise


async def _read(stream: asyncio.StreamReader | None, limit: int, *, strict: bool = False) -> bytes:
    """Read to the end; keep at most `limit` bytes, or raise GitFailed beyond them where `strict`."""
    kept = bytearray()
    while stream is not None and (piece := await stream.read(65_536)):
        if strict and len(kept) + len(piece) > limit:
            raise GitFailed(f"git said more than {limit} bytes")
        kept += piece[: limit - len(kept)]
    return bytes(kept)


def _reason(verb: str, status: int, noise: bytes) -> str:
    """The last telling line of git's complaint, cleaned of what a terminal would act on, at most 500 characters."""
    if status in (-signal.SIGXFSZ, 128 + signal.SIGXFSZ):
        return f"git {verb}: larger than the bound"
    lines = [line for line in noise.decode("utf-8", "replace").splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(("fatal:", "error:", "remote:"))] or lines
    words = "".join(c for c in "; ".join(telling[-3:]) if c.isprintable())
    return f"git {verb}: {words[:500] or f'status {status}'}"
