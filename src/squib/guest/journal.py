"""The supervisor's own log: lines in memory within a bound, for `GET /logs`, and on its standard error."""

import contextlib
import logging
import sys
from collections import deque

MAX_BYTES = 256 * 1024
MAX_WRITTEN = 4 * 1024 * 1024  # to standard error, which is a file of the host's
_MAX_LINE = 4096


class Journal(logging.Handler):
    """Keeps the newest lines, `MAX_BYTES` of them, and writes each to standard error as well."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        self._lines: deque[str] = deque()
        self._size = self._written = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Keep and write one record, cut to `_MAX_LINE` characters."""
        line = self.format(record)[:_MAX_LINE] + "\n"
        self._lines.append(line)
        self._size += len(line)
        while self._size > MAX_BYTES:
            self._size -= len(self._lines.popleft())
        self._written += len(line)
        if self._written <= MAX_WRITTEN:
            with contextlib.suppress(OSError, ValueError):  # nobody may be there to be told
                sys.stderr.write(line)

    def text(self) -> str:
        """All lines that are kept."""
        return "".join(self._lines)

    def install(self) -> None:
        """Become the handler of all of this process's logging."""
        root = logging.getLogger()
        root.handlers[:] = [self]
        root.setLevel(logging.INFO)
