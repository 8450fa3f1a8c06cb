"""`squib doctor`."""

import asyncio

from squib import settings
from squib.cli import exits, options
from squib.cli.checkup import Finding, examine
from squib.cli.output import clean, say, say_json, styled

_WIDTH = 12


def doctor(*, json: options.Json = False) -> int:
    """Say what works on this machine, and what to do where it does not.

    Sandbox drivers are tried by a real boot. The exit status is 0 where tasks can run: an isolating driver, an
    agent and the database work, and the state directory can be written.

    Args:
        json: Print the findings as JSON.
    """
    findings = asyncio.run(examine(settings.load()))
    ready = all(any(f.works for f in findings if f.kind == kind) for kind in {f.kind for f in findings if f.needed})
    if json:
        say_json({"ready": ready, "findings": findings})
    else:
        for finding in findings:
            _tell(finding)
        say()
        say(
            styled("tasks can run here", "bold", "green")
            if ready
            else styled("tasks can't run here yet", "bold", "red")
        )
    return exits.OK if ready else exits.FAILED


def _tell(finding: Finding) -> None:
    mark = styled("works", "green") if finding.works else styled("no   ", "red" if finding.needed else "yellow")
    say(f"{mark}  {finding.kind.ljust(_WIDTH)}{clean(f'{finding.name}  {finding.detail}'.strip(), lines=False)}")
    if not finding.works and finding.advice:
        say(f"{' ' * (_WIDTH + 7)}{clean(finding.advice, lines=False)}")
