"""What programs find in their environment."""

from dataclasses import replace

import pytest

from squib.contracts.errors import InvalidRequest
from squib.contracts.guest import GuestConfig
from squib.guest.environment import build


def test_the_image_lies_below_the_request(config: GuestConfig) -> None:
    made = build(replace(config, environment={"A": "image", "B": "image"}), "x", {"B": "agent"}, {"C": "request"})
    assert (made["A"], made["B"], made["C"]) == ("image", "agent", "request")


def test_home_and_user_are_the_sandboxs_own(config: GuestConfig) -> None:
    plain = build(config, "x")
    made = build(replace(config, environment=dict.fromkeys(plain, "image")), "x")
    assert {name for name, value in made.items() if value != plain[name]} == {"PATH", "LANG"}


def test_programs_of_the_image_come_first_and_the_tools_are_still_found(config: GuestConfig) -> None:
    image = {"PATH": "/opt/conda/bin:/usr/bin"}
    made = build(replace(config, path="/tools/bin:/usr/bin:/bin", environment=image), "x")
    assert made["PATH"] == "/opt/conda/bin:/usr/bin:/tools/bin:/bin"


@pytest.mark.parametrize("name", ["", "a=b", "a\0b"])
def test_a_name_that_no_process_can_have(config: GuestConfig, name: str) -> None:
    with pytest.raises(InvalidRequest, match="env"):
        build(config, "x", {name: "value"})
