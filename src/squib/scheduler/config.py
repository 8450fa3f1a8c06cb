"""What the scheduler is told from outside."""

from dataclasses import dataclass, field
from pathlib import Path

_GIB = 1024**3


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    """Sizes are in bytes. `state_dir` holds the repository cache, the tasks' saved work, and scratch files."""

    key: bytes = field(repr=False)  # the installation's: guests' tokens derive from it
    state_dir: Path
    default_agent: str
    concurrency: int = 16  # tasks at work at once; idle ones do not count
    lease_seconds: float = 15.0
    save_seconds: float = 5.0  # between two saves of the work outside the sandbox
    sweep_seconds: float = 2.0
    suspend_seconds: float = 60.0  # of idleness, after which a sandbox is put to disk where its driver can
    put_away_seconds: float = 900.0  # ... and where it can't: then its work is kept, and the sandbox goes
    max_attempts: int = 3  # sandboxes that a task may take
    git_seconds: float = 300.0  # for one call of git
    max_repository_bytes: int = 2 * _GIB  # of one repository, and of one task's saved work
    max_archive_bytes: int = _GIB  # of one workspace's tar.gz
    retention_seconds: float | None = 30 * 86_400.0  # of artifacts; None: for ever
    git_ca_info: Path | None = None  # a file of further certificates that repositories' servers may show
    allow_file_urls: bool = False  # tests only
