"""Readers of a guest that is frozen and begins new epochs: each event once, in order, or a gap that says so."""

import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from squib.contracts import codec
from squib.contracts.event import EventType, GuestEvent
from squib.guest.events import EventLog, Reader
from squib.guest.ring import Ring


class Epochs(RuleBasedStateMachine):
    """The model is a list of all events ever, by epoch and number; a reader is its place in it."""

    @initialize(limit=st.integers(1_000, 20_000))
    def start(self, limit: int) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.log = EventLog(Ring(Path(self.directory.name), limit), 10, "1.2.3")
        self.all: list[tuple[str, int]] = []
        self.readers: list[tuple[Reader, int]] = []
        self.begin()

    @rule()
    def begin(self) -> None:
        self.log.begin()
        self.all.append((self.log.epoch, 1))

    @rule(count=st.integers(1, 20))
    def happen(self, count: int) -> None:
        for _ in range(count):
            self.all.append((self.log.epoch, self.log.record("x", {"text": "y" * 50})))

    @rule(data=st.data())
    def be_away(self, data: st.DataObject) -> None:
        """As in a machine that went on (all is there) and in a clone with another directory (nothing is)."""
        self.log.release()
        if data.draw(st.booleans()):
            for file in Path(self.directory.name).iterdir():
                file.unlink()
        self.log.reclaim()

    @rule(data=st.data())
    def come(self, data: st.DataObject) -> None:
        place = data.draw(st.integers(1, len(self.all)))
        epoch, n = self.all[place - 1]
        self.readers.append((self.log.attach(f"{epoch}:{n}"), place))

    @rule()
    def come_anew(self) -> None:
        self.readers.append((self.log.attach(None), self.all.index((self.log.epoch, 1))))

    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        if self.readers:
            number = data.draw(st.integers(0, len(self.readers) - 1))
            reader, place = self.readers[number]
            frames = reader.read()
            for event in _events(frames):
                first = event.data["first"] if event.type == EventType.RUNTIME_GAP else event.n
                assert self.all[place] == (event.epoch, first)
                place += event.n - first + 1
                assert self.all[place - 1] == (event.epoch, event.n)
            assert frames or place == len(self.all)
            self.readers[number] = (reader, place)

    def teardown(self) -> None:
        if hasattr(self, "log"):
            self.log.close()
            self.directory.cleanup()


def _events(frames: bytes) -> list[GuestEvent]:
    lines = [frame.split("\ndata: ")[1] for frame in frames.decode().split("\n\n")[:-1]]
    return [codec.loads(GuestEvent, line) for line in lines]


TestEpochs = Epochs.TestCase
TestEpochs.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
