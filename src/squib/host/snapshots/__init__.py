"""Snapshots: machines frozen once their guest was warm, from which others start in a fraction of a boot.

Does: build them beside a running host (`build`), keep them in `<state>/snapshots`, say which may be used here and
why others may not (`verdicts`), find the one for a machine that is to be made (`Shelf`). Must not hold up a claim:
whatever takes long happens beside, at low priority. The host and the composition root (`squib.cli`) import it.
"""

from squib.host.snapshots.build import build
from squib.host.snapshots.store import Snapshots, Stored
from squib.host.snapshots.verdicts import verdicts

__all__ = ["Snapshots", "Stored", "build", "verdicts"]
