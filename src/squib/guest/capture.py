"""A command's output in memory, within a bound: for buffered commands and for `git`."""

from collections.abc import Mapping, Sequence

from squib.guest.children import Children
from squib.guest.command import Command, Ended


class Buffer:
    """Keeps the first `limit` bytes of a stream; a sink for `Command`."""

    __slots__ = ("_limit", "_parts", "size", "truncated")

    def __init__(self, limit: int):
        self._limit, self._parts = limit, list[bytes]()
        self.size = 0
        self.truncated = False

    def __call__(self, data: bytes) -> None:
        """Take bytes; beyond the limit they are only counted as truncated."""
        room = self._limit - self.size
        if len(data) > room:
            self.truncated = True
            data = data[:room]
        if data:
            self._parts.append(data)
            self.size += len(data)

    @property
    def content(self) -> bytes:
        """What was kept."""
        return b"".join(self._parts)

    @property
    def text(self) -> str:
        """What was kept, with U+FFFD for what is no UTF-8."""
        return self.content.decode("utf-8", "replace")


async def capture(
    children: Children,
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: int,
    seconds: float,
    limit: int,
    stdin: bytes = b"",
    stdout: int | None = None,
) -> tuple[Ended, Buffer, Buffer]:
    """Run a command to its end, at most `seconds`; give how it ended and `limit` bytes of each stream.

    `stdout` may be a descriptor that takes the output instead. Raises OSError where it cannot be started.
    """
    out, err = Buffer(limit), Buffer(limit)
    async with Command(
        children, argv, env=env, cwd=cwd, stdin=stdin, stdout=out if stdout is None else stdout, stderr=err
    ) as command:
        ended = await command.wait(seconds)
    return ended, out, err
