"""What a machine is configured to be, and the devices that it holds: each request takes effect at once, or fails."""

import ipaddress
from pathlib import Path
from typing import Any

from squib.testing.firecracker import devices
from squib.testing.firecracker.fault import Fatal, Fault, os_text

Values = dict[str, Any]
_LINK_LOCAL = ipaddress.ip_network("169.254.0.0/16")
_RESTORE = (
    "Load snapshot error: Failed to restore from snapshot: Failed to build microVM from snapshot: "
    "Failed to restore devices: Error restoring MMIO devices: "
)
_KERNEL = "The kernel file cannot be opened: "
_INITRD = "The initrd file cannot be opened due to invalid path or invalid permissions. "


class Configuration:
    """All methods raise Fault. `touched`: something is configured that a snapshot would bring itself."""

    def __init__(self) -> None:
        self.touched = False
        self.machine: Values = {"vcpu_count": 1, "mem_size_mib": 128, "smt": False}
        self.machine |= {"track_dirty_pages": False, "huge_pages": "None"}
        self.boot: Values | None = None
        self.mmds: Values | None = None
        self._drives: dict[str, Values] = {}
        self._nets: dict[str, Values] = {}
        self._vsock: Values | None = None
        self._entropy: Values | None = None
        self._held = devices.Held()

    @property
    def drives(self) -> list[Values]:
        """The drives, in their order."""
        return list(self._drives.values())

    @property
    def memory(self) -> int:
        """MiB."""
        return int(self.machine["mem_size_mib"])

    def document(self) -> Values:
        """What GET /vm/config answers; absent values are null, which the description does not say."""
        return {
            "balloon": None,
            "drives": self.drives,
            "boot-source": self.boot or {"kernel_image_path": "", "initrd_path": None, "boot_args": None},
            "cpu-config": None,
            "logger": None,
            "machine-config": self.machine,
            "metrics": None,
            "mmds-config": self.mmds,
            "network-interfaces": list(self._nets.values()),
            "vsock": self._vsock,
            "entropy": self._entropy,
            "pmem": [],
            "memory-hotplug": None,
        }

    def close(self) -> None:
        """Let go of the devices."""
        self._held.close()

    # -- before the start

    def put_boot(self, value: Values) -> None:
        """Open kernel and initramfs."""
        self.touched = True
        for name, text in (("kernel_image_path", _KERNEL), ("initrd_path", _INITRD)):
            if value.get(name) is not None:
                opened(value[name], "rb", f"Boot source error: {text}")
        self.boot = {"initrd_path": None, "boot_args": None, **value}

    def put_machine(self, value: Values) -> None:
        """Replace what is given."""
        self.touched = True
        new = {**self.machine, **_given(value)}
        cpus, memory = new["vcpu_count"], new["mem_size_mib"]
        if not 1 <= cpus <= 32 or (new["smt"] and cpus > 1 and cpus % 2):
            raise Fault(
                "Machine config error: The number of vCPUs must be greater than 0, less than 32 and must be 1 or an "
                "even number if SMT is enabled."
            )
        if memory == 0 or (new["huge_pages"] != "None" and memory % 2):
            text = "The memory size (MiB) is either 0, or not a multiple of the configured page size."
            raise Fault(f"Machine config error: {text}")
        self.machine = new

    def put_drive(self, value: Values) -> None:
        """Open a drive."""
        self.touched = True
        root = next((held["drive_id"] for held in self.drives if held["is_root_device"]), None)
        if value["is_root_device"] and root not in (None, value["drive_id"]):
            raise Fault("Drive config error: A root block device already exists!")
        if (why := devices.open_drive(value)) is not None:
            raise Fault(f"Drive config error: Unable to create the virtio block device: {why}")
        self._drives[value["drive_id"]] = {"cache_type": "Unsafe", "io_engine": "Sync", **value}

    def put_net(self, value: Values) -> None:
        """Attach a tap."""
        self.touched = True
        others = [held for held in self._nets.values() if held["iface_id"] != value["iface_id"]]
        mac = value.get("guest_mac")
        if mac is not None and mac.lower() in [str(held.get("guest_mac")).lower() for held in others]:
            raise Fault(f"Network config error: The MAC address is already in use: {mac}")
        self._attach(value, "Network config error: ", Fault)
        self._nets[value["iface_id"]] = value

    def put_vsock(self, value: Values) -> None:
        """Bind a socket."""
        self.touched = True
        self._bind(value, "Vsock config error: Cannot create backend for vsock device: ", Fault)
        self._vsock = {"guest_cid": value["guest_cid"], "uds_path": value["uds_path"]}

    def put_entropy(self, value: Values) -> None:
        """Take it."""
        self.touched = True
        self._entropy = value

    def put_mmds(self, value: Values) -> None:
        """Offer metadata on interfaces that are there."""
        self.touched = True
        prefix = "MMMDS config error: "  # as it is spelt
        address = value.get("ipv4_address")
        if address is not None and ipaddress.ip_address(address) not in _LINK_LOCAL:
            raise Fault(f"{prefix}The MMDS IPv4 address is not link local.")
        if not value["network_interfaces"]:
            raise Fault(f"{prefix}The list of network interface IDs that allow forwarding MMDS requests is empty.")
        if not set(value["network_interfaces"]) <= set(self._nets):
            raise Fault(
                f"{prefix}The list of network interface IDs provided contains at least one ID that does not "
                "correspond to any existing network interface."
            )
        self.mmds = {"version": "V1", "ipv4_address": "169.254.169.254", "imds_compat": False, **_given(value)}

    # -- once it has started

    def patch_drive(self, value: Values) -> None:
        """Another file or limit."""
        prefix = "Drive config error: Unable to patch the block device: "
        end = " Please verify the request arguments."
        drive = self._drives.get(value["drive_id"])
        if drive is None:
            raise Fault(f"{prefix}Failed perform action on device: Device not found{end}")
        changed = {**drive, **_given(value)}
        if (why := devices.open_drive(changed)) is not None:
            raise Fault(f"{prefix}Block: {why}{end}")
        self._drives[value["drive_id"]] = changed

    def patch_net(self, value: Values) -> None:
        """Other limits."""
        net = self._nets.get(value["iface_id"])
        if net is None:
            text = "Unable to update the net device: Failed perform action on device: Device not found"
            raise Fault(f"Network config error: {text}")
        self._nets[value["iface_id"]] = {**net, **_given(value)}

    # -- snapshots

    def state(self) -> Values:
        """What a snapshot keeps of it: neither logs nor metadata."""
        return {
            "machine": self.machine,
            "drives": self.drives,
            "nets": list(self._nets.values()),
            "vsock": self._vsock,
            "entropy": self._entropy,
            "mmds": self.mmds,
        }

    def restore(self, state: Values, *, track_dirty_pages: bool) -> None:
        """Become what a snapshot kept, its devices opened anew. Raises Fatal."""
        for drive in state["drives"]:
            if (why := devices.open_drive(drive)) is not None:
                raise Fatal(f"{_RESTORE}Block: {why}")
        for net in state["nets"]:
            self._attach(net, f"{_RESTORE}Net: ", Fatal)
        if state["vsock"] is not None:
            self._bind(state["vsock"], f"{_RESTORE}VsockUnixBackend: ", Fatal)
        self.machine = {**state["machine"], "track_dirty_pages": track_dirty_pages}
        self._drives = {drive["drive_id"]: drive for drive in state["drives"]}
        self._nets = {net["iface_id"]: net for net in state["nets"]}
        self._vsock, self._entropy, self.mmds = state["vsock"], state["entropy"], state["mmds"]

    def _attach(self, net: Values, prefix: str, kind: type[Fault]) -> None:
        try:
            self._held.tap(net["iface_id"], net["host_dev_name"])
        except Fault as error:
            raise kind(prefix + error.text) from error

    def _bind(self, vsock: Values, prefix: str, kind: type[Fault]) -> None:
        try:
            self._held.vsock(vsock["uds_path"])
        except OSError as error:
            raise kind(f"{prefix}Error binding to the host-side Unix socket: {os_text(error)}") from error


def opened(path: str, mode: str, prefix: str) -> None:
    """See whether a file opens. Raises Fault, which begins with `prefix`."""
    try:
        Path(path).open(mode).close()
    except OSError as error:
        raise Fault(prefix + os_text(error)) from error


def _given(value: Values) -> Values:
    return {name: held for name, held in value.items() if held is not None}
