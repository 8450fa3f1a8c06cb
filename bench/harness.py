"""Rows: samples in, one line each of median, 99th percentile, floor, target and verdict out."""

import json
import math
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

WIDTH = 165
OUT = Path(__file__).parent / "out" / "results.json"


@dataclass(frozen=True)
class Target:
    """What the median and the 99th percentile must reach; `at_least` turns both bounds round."""

    median: float | None = None
    p99: float | None = None
    at_least: bool = False

    def met(self, row: "Row") -> bool:
        """Say whether the row reaches it."""
        pairs = [(row.median, self.median), (row.p99, self.p99)]
        return all(bound is None or (value >= bound if self.at_least else value <= bound) for value, bound in pairs)

    def __str__(self) -> str:
        sign = "≥" if self.at_least else "≤"
        parts = [
            f"{name} {sign} {number(bound)}" for name, bound in (("p50", self.median), ("p99", self.p99)) if bound
        ]
        return ", ".join(parts)


@dataclass(frozen=True)
class Row:
    """One measured thing. `p99` is of the bad side: for a rate it is the slowest percent."""

    name: str
    unit: str
    n: int
    median: float
    p99: float
    floor: float | None  # the same by something bare, in the same run: its median
    floor_p99: float | None
    floor_of: str
    target: str
    ok: bool | None  # None: no target
    machine: str


@dataclass
class Bench:
    """Collects rows and prints each as it comes."""

    console: Console = field(default_factory=lambda: Console(width=WIDTH))
    machine: str = field(default_factory=lambda: machine())
    rows: list[Row] = field(default_factory=list)

    def add(
        self,
        name: str,
        unit: str,
        samples: Sequence[float],
        *,
        floor: Sequence[float] = (),
        floor_of: str = "",
        target: Target | None = None,
        rate: bool = False,
    ) -> Row:
        """Take a row's samples; `rate`: more is better, so that its p99 is the low end."""
        bad = 0.01 if rate or (target is not None and target.at_least) else 0.99
        bare, bare_far = (percentile(floor, 0.5), percentile(floor, bad)) if floor else (None, None)
        middle, far = percentile(samples, 0.5), percentile(samples, bad)
        row = Row(name, unit, len(samples), middle, far, bare, bare_far, floor_of, "", None, self.machine)
        if target is not None:
            row = Row(**{**asdict(row), "target": str(target), "ok": target.met(row)})
        self.rows.append(row)
        beside = f"  (floor {_pair(bare, bare_far)}: {floor_of})" if floor else ""
        self.console.print(
            f"  {name}: {number(middle)} / {number(far)} {unit}{beside}", highlight=False, markup=False
        )
        return row

    def table(self) -> Table:
        """All rows for a person."""
        table = Table(title=self.machine, title_justify="left", show_edge=False)
        for column in ("what", "unit", "n", "p50", "p99", "floor", "target", ""):
            side: Literal["left", "right"] = "left" if column in ("what", "unit", "target") else "right"
            table.add_column(column, justify=side, no_wrap=True)
        for row in self.rows:
            verdict = {None: "", True: "[green]ok[/]", False: "[red]missed[/]"}[row.ok]
            values = [number(row.median), number(row.p99), _pair(row.floor, row.floor_p99), row.target, verdict]
            table.add_row(row.name, row.unit, str(row.n), *values)
        return table

    def write(self) -> Path:
        """Keep the rows as JSON: those of a group that did not run this time stay as they were."""
        fresh = {row.name for row in self.rows}
        kept = [r for r in json.loads(OUT.read_text()) if r["name"] not in fresh] if OUT.exists() else []
        OUT.parent.mkdir(exist_ok=True)
        OUT.write_text(json.dumps([*kept, *map(asdict, self.rows)], indent=1, ensure_ascii=False) + "\n")
        return OUT


def percentile(samples: Sequence[float], q: float) -> float:
    """The nearest-rank percentile, `q` in 0..1: always one of the samples."""
    ordered = sorted(samples)
    return ordered[min(len(ordered), max(1, math.ceil(q * len(ordered)))) - 1]


def number(value: float) -> str:
    """Three significant digits, thousands apart."""
    if abs(value) >= 1000:
        return f"{round(value, 2 - math.floor(math.log10(abs(value)))):,.0f}"
    return f"{value:.3g}"


def _pair(median: float | None, far: float | None) -> str:
    if median is None or far is None:
        return ""
    return number(median) if median == far else f"{number(median)} / {number(far)}"


def machine() -> str:
    """What this was measured on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    kernel = f"{platform.system()} {platform.release()}"
    return f"{cores} cores, {memory:.0f} GiB, {kernel}, Python {platform.python_version()}"
