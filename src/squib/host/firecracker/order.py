"""Where one VMM stands, and whether a call fits: a mistake of ours is found before it is sent."""

from typing import Any

from squib.host.firecracker import calls
from squib.host.firecracker.calls import Call, When
from squib.host.firecracker.errors import OutOfOrder
from squib.host.firecracker.models import InstanceState, VmState


class Course:
    """The course of one VMM process, which takes a machine once: `check` before a call, `done` after it.

    `state` is what GET / says of a VMM that another process of ours has configured already.
    """

    def __init__(self, state: InstanceState = InstanceState.NOT_STARTED):
        self.state = state
        self.spent = False  # a load failed: the process ends
        self._configured = False
        self._kernel = False
        self._interfaces: set[str] = set()

    def check(self, call: Call, body: Any = None) -> None:
        """Raise OutOfOrder where Firecracker would refuse the call as it stands."""
        if self.spent:
            raise OutOfOrder(f"{call}: this VMM failed to load a snapshot and ends")
        if (why := self._misfit(call, body)) is not None:
            raise OutOfOrder(f"{call} is possible {call.when}: {why}")

    def _misfit(self, call: Call, body: Any) -> str | None:
        started = self.state is not InstanceState.NOT_STARTED
        if call.when in (When.BEFORE, When.FRESH) and started:
            return f"it is {self.state.value.lower()}"
        if call.when is When.AFTER and not started:
            return "it has not started"
        if call.when is When.PAUSED and self.state is not InstanceState.PAUSED:
            return f"it is {self.state.value.lower()}"
        if call.when is When.FRESH and self._configured:
            return "parts of it are configured"
        if call is calls.START and not self._kernel:
            return "and it has no kernel"
        if call is calls.PUT_MMDS_CONFIG and not self._interfaces.issuperset(body.network_interfaces):
            return "and its interface has to be there"
        return None

    def done(self, call: Call, body: Any = None) -> None:
        """Take note of a call that succeeded."""
        self._configured |= call.configures
        if call is calls.PUT_BOOT:
            self._kernel = True
        elif call is calls.PUT_NETWORK:
            self._interfaces.add(body.iface_id)
        elif call is calls.START:
            self.state = InstanceState.RUNNING
        elif call is calls.LOAD:
            self.state = InstanceState.RUNNING if body.resume_vm else InstanceState.PAUSED
        elif call is calls.PATCH_VM:
            self.state = InstanceState.PAUSED if body.state is VmState.PAUSED else InstanceState.RUNNING
