"""The zipapp's entry: `serve` and `init`, the guest; `helper`, its other half in gVisor; `mock-agent`."""

import sys

from squib.guest import lazy

USAGE = """usage: guest.pyz serve --config FILE
       guest.pyz init --config FILE --filter FILE
       guest.pyz mock-agent [ARGUMENT ...]"""


def _without_openssl() -> None:
    """Keep OpenSSL out: 4 MB and 15 ms, for a supervisor that speaks no TLS and hashes with CPython's own code."""
    try:
        lazy.load("_sha2" if sys.version_info >= (3, 12) else "_sha256")
    except ImportError:
        return
    for name in ("ssl", "_ssl", "_hashlib"):
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]


def main(argv: list[str]) -> int:
    """Run what the arguments say and give the exit status; 2 for wrong usage."""
    if argv[:1] == ["mock-agent"]:
        return int(lazy.member("squib.agents.mock_program:main")(argv[1:]) or 0)
    if argv == ["helper"]:
        return int(lazy.member("squib.guest.rights:help_asleep")())
    if argv[:1] == ["init"]:
        _without_openssl()
        return int(lazy.member("squib.guest.init:main")(argv[1:]))
    if len(argv) == 3 and argv[:2] == ["serve", "--config"]:
        _without_openssl()
        return int(lazy.member("squib.guest.supervisor:serve")(argv[2]))
    sys.stderr.write(USAGE + "\n")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
