"""The guest: the supervisor inside a sandbox, PID 1 where the driver lets it be.

It runs agents and commands, keeps the workspace's files and repository, numbers events, and serves all of that
by the HTTP contract of `squib.contracts.guest`. It is shipped as one zipapp (`squib.guest.bundle`) for any
CPython >= 3.11 and is started as

    python3 -I -S guest.pyz serve --config FILE

(`init` in place of `serve` as the first program of a machine with a kernel of its own.)
(`-I -S`: no site-packages and no environment decide what it imports; 10 ms and 3 MB less.) It must not trust
what runs beside it with more than the sandbox has already, must not hold a secret, and must not reach out of the
workspace for a request's path. It imports the standard library, `squib.contracts`, `squib.agents`, h11 and
wsproto; nobody imports it but the host, for `squib.guest.bundle`, and tests.
"""
