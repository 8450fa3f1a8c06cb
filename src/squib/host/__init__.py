"""The node's side of sandboxes: drivers that make machines, a warm pool of them, snapshots, adoption, the reaper.

Does: start the guest in an isolated machine and hand it out (`Host`); keep each machine's record on disk, so that
machines outlive this process and the next one adopts them; let them go on from snapshots, put them to disk, copy
them, where their driver can; renew their leases, enforce their limits and their end; leave nothing behind. Must not:
know tasks beyond their ids, speak to a model, read what a guest wrote except through `squib.link`. Imports contracts,
gateway, link and the guest's bundle; the orchestrator and the composition root (`squib.cli`) import it.
"""

from squib.host.config import HostConfig
from squib.host.host import Host
from squib.host.probes import probe_all

__all__ = ["Host", "HostConfig", "probe_all"]
