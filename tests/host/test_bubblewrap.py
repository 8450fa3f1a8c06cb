import pytest

from squib.host.drivers import bubblewrap, trial


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("bwrap: setting up uid map: Permission denied", "user namespaces"),
        (
            "bwrap: No permissions to create new namespace, likely because the kernel does not allow",
            "user namespaces",
        ),
        ("bwrap: Creating new namespace failed: Operation not permitted", "user namespaces"),
        ("bwrap: Can't mount proc on /newroot/proc: Operation not permitted", "systempaths=unconfined"),
        ("bwrap: Can't find source path /root/x/machines: Permission denied", "state directory"),
        ("bwrap: Unknown option --disable-userns", "0.8"),
        ("setpriv: setresuid failed: Operation not permitted", "SETUID"),
        ("setpriv is not installed (util-linux)", "util-linux"),
        ("there is no Python where the sandbox could see it", "python3"),
        ("/usr/bin/python3 is older than 3.11", "3.11"),
    ],
)
def test_what_went_wrong_comes_with_what_to_do(said: str, advice: str) -> None:
    assert advice in trial.advise(said, bubblewrap._ADVICE, "")
