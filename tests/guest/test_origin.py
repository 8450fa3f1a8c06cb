"""The marks by which a guest knows its processes."""

import subprocess
import sys

SAY = "from squib.guest.routes.terminal import origin; print(origin())"


def test_no_two_guests_give_their_first_command_the_same_mark() -> None:
    """Guests of one user see each other's processes: what one ends must not be another's."""
    said = {subprocess.run([sys.executable, "-c", SAY], capture_output=True, check=True).stdout for _ in range(2)}
    assert len(said) == 2
