"""The marks that the figures are held against, and where those figures are found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Mark:
    """What one figure should be: at least or at most so much, on 3.14 and on 3.15."""

    work: str
    figure: str
    bound: str
    of_3_14: float
    of_3_15: float

    def on(self, python: str) -> float | None:
        return {"3.14": self.of_3_14, "3.15": self.of_3_15}.get(python)

    @property
    def bytes(self) -> bool:
        return self.figure == "a lock's waiter *"

    def missed(self, figure: float, python: str) -> bool:
        mark = self.on(python)
        if mark is None:
            return False
        return figure < mark if self.bound == "≥" else figure > mark


MARKS = [
    Mark("`async with lock`", "async with lock / asyncio", "≥", 3.7, 3.9),
    Mark("the same, to the no-op floor", "async with lock / floor", "≤", 1.05, 1.05),
    Mark("`Lock`: acquire and release", "lock: acquire(), release() / asyncio", "≥", 2, 3),
    Mark("`async with Semaphore`", "async with semaphore / asyncio", "≥", 6, 6),
    Mark("`async with BoundedSemaphore`", "async with bounded semaphore / asyncio", "≥", 7, 7),
    Mark("`event.wait()` when set", "event: wait() when set / asyncio", "≥", 3, 3),
    Mark("`Lock`: hand-off", "lock: hand-off between 2 tasks / asyncio", "≥", 1.45, 1.5),
    Mark("the same, to bare futures", "lock: hand-off between 2 tasks / floor", "≤", 1.05, 1.05),
    Mark(
        "the same on uvloop",
        "lock: hand-off between 2 tasks / asyncio, uvloop",
        "≥",
        1.65,
        1.65,
    ),
    Mark(
        "the same on uvloop, to bare futures",
        "lock: hand-off between 2 tasks / floor, uvloop",
        "≤",
        1.05,
        1.05,
    ),
    Mark("`Condition`: ping-pong", "condition: notify, 2 tasks / asyncio", "≥", 1.4, 1.4),
    Mark("`Barrier(10)`", "barrier of 10: a wait / asyncio", "≥", 5, 5),
    Mark("`Barrier(100)`", "barrier of 100: a wait / asyncio", "≥", 6, 6),
    Mark(
        "100,000 waiters cancelled in random order, each against 1,000's",
        "cancelling, random: 100000",
        "≤",
        1.3,
        1.3,
    ),
    Mark(
        "bytes of a parked waiter beyond a task parked on a future",
        "a lock's waiter *",
        "≤",
        160,
        160,
    ),
]


def figures(
    ratios: dict[str, Any], growth: dict[str, Any], memory: dict[str, Any]
) -> dict[str, float]:
    """Collect what one Python's results say, by the names that marks use."""
    found: dict[str, float] = {}
    for row in ratios.get("rows", []):
        loop = "" if row["loop"] == "asyncio" else f", {row['loop']}"
        found[f"{row['row']} / {row['against']}{loop}"] = row["ratio"]
    for row in growth.get("rows", []):
        if row["implementation"] == "aiofastlock":
            found[f"{row['work']}: {row['waiters']}"] = row["growth"]
    for row in memory.get("rows", []):
        if row["implementation"] == "compiled":
            found[row["row"]] = row["bytes"]
    return found
