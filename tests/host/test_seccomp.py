"""The table of refused calls in its two forms; that it holds is asked inside, in tests/conformance."""

import errno
import termios

import pytest

from squib.host import seccomp


def test_the_profile_says_what_the_table_says() -> None:
    profile = seccomp.profile()
    assert profile["defaultAction"] == "SCMP_ACT_ALLOW"
    said = {(call, entry["errnoRet"]) for entry in profile["syscalls"] for call in entry["names"]}
    assert said == {(rule.call, rule.error) for rule in seccomp.rules()}
    assert {("mount", errno.EPERM), ("clone3", errno.ENOSYS)} <= said


def test_a_call_that_is_refused_in_part_is_told_by_masked_arguments() -> None:
    tests = [entry["args"] for entry in seccomp.profile()["syscalls"] if entry["names"] == ["ioctl"]]
    low = 0xFFFFFFFF
    assert [{"index": 1, "value": low, "valueTwo": termios.TIOCSTI, "op": "SCMP_CMP_MASKED_EQ"}] in tests
    assert all(len(test) == 1 and test[0]["value"] == low for test in tests)


@pytest.mark.needs("libseccomp")
def test_the_program_grows_with_the_table() -> None:
    assert len(seccomp.program(("lgetxattr",))) > len(seccomp.program())
