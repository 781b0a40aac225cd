"""Write the tables of benchmarks/README.md and README.md, and the plots, from results/*.json.

The text between `<!-- benchmark: NAME -->` and `<!-- end -->` is replaced.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import plots
import results

HERE = Path(__file__).resolve().parent
READMES = (HERE.parent / "README.md", HERE / "README.md")
MARKED = r"(<!-- benchmark: (\w+) -->).*?<!-- end -->"
NOTHING = "Not measured yet."

# The rows of the short table, and their names there.
SHORT = {
    "async with lock": "`async with lock`",
    "lock: acquire(), release()": "`await lock.acquire()`, `lock.release()`",
    "async with semaphore": "`async with semaphore`",
    "async with condition": "`async with condition`",
    "event: wait() when set": "`await event.wait()`, set",
    "queue: put_nowait(), get_nowait()": "`queue.put_nowait(item)`, `queue.get_nowait()`",
    "queue: await put(), await get()": "`await queue.put(item)`, `await queue.get()`",
    "lock: hand-off between 2 tasks": "a contended lock: hand-off to the next task",
    "condition: notify() between 2 tasks": "a condition: notify, and wake up",
    "barrier of 10: wait()": "a barrier of 10: `wait()`",
    "lock: cancel one of 5,000 waiters": "cancel one of 5,000 waiters",
    "semaphore: release() with 5,000 waiters": "`semaphore.release()` with 5,000 waiters",
}


# ---- Cells ----


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; all columns but the first are right-aligned."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cost(nanoseconds: float | None) -> str:
    if nanoseconds is None:
        return "-"
    return f"{nanoseconds:,.1f}" if nanoseconds < 100 else f"{nanoseconds:,.0f}"


def unique(rows: Iterable[dict[str, Any]], key: str) -> list[Any]:
    """Return the different values of a key, in the rows' order."""
    return list(dict.fromkeys(row[key] for row in rows))


def by_python(part: str, render: Callable[[dict[str, Any]], str]) -> str:
    """Return a part's tables, one for each Python, the newest first."""
    found = results.read(part)
    sections = [
        f"**{found[python]['environment']['build']}**\n\n{render(found[python])}"
        for python in reversed(found)
    ]
    return "\n\n".join(sections) or NOTHING


# ---- Tables ----


def short() -> str:
    found = results.read("ratios")
    if not found:
        return NOTHING
    *_, newest = found.values()
    rows = {
        row["row"]: row
        for row in newest["rows"]
        if row["loop"] == "asyncio" and row["against"] == "asyncio"
    }
    cells = [
        [name, f"{cost(rows[row]['other'])} ns", f"{cost(rows[row]['ours'])} ns", times(rows[row])]
        for row, name in SHORT.items()
        if row in rows
    ]
    head = ["", "asyncio", "aiofastlock", "ratio"]
    return f"{table(head, cells)}\n\n{measured_on(newest)}."


def measured_on(found: dict[str, Any]) -> str:
    return f"{found['environment']['build']}, {found['environment']['processor']}"


def times(row: dict[str, Any]) -> str:
    return f"{row['ratio']:.0f}x" if row["ratio"] >= 20 else f"{row['ratio']:.2f}x"


def freeze() -> str:
    found = results.read("freeze")
    if not found:
        return NOTHING
    *_, newest = found.values()
    theirs, ours = newest["rows"]
    return (
        f"A `TaskGroup` of {theirs['tasks']:,} tasks that wait for a `Semaphore(10)` fails: "
        f"asyncio blocks the event loop for {theirs['seconds']:.2g} s, aiofastlock for "
        f"{ours['seconds']:.2g} s ({measured_on(newest)})."
    )


def against(other: str, show: Callable[[dict[str, Any]], str]) -> str:
    """Return a table of the ratios to asyncio or to the floor, with a column for each Python."""
    found = results.read("ratios")
    lines: dict[str, dict[str, str]] = {}
    for python, part in found.items():
        for row in part["rows"]:
            if row["against"] == other:
                lines.setdefault(on_loop(row), {})[python] = show(row)
    cells = [[name, *(line.get(python, "-") for python in found)] for name, line in lines.items()]
    return table(["", *found], cells) if found else NOTHING


def builds() -> str:
    found = results.read("ratios").values()
    return "; ".join(part["environment"]["build"] for part in found) + "." if found else NOTHING


def on_loop(row: dict[str, Any]) -> str:
    name: str = row["row"]
    return name if row["loop"] == "asyncio" else f"{name}, {row['loop']}"


def environments() -> str:
    """Return the environments of all parts, in one line for the parts that share one."""
    parts: dict[tuple[str, ...], list[str]] = {}
    for part in ("ratios", "timed", "growth", "freeze", "memory", "counts", "programs", "watching"):
        for found in reversed(results.read(part).values()):
            made_on = found["environment"]
            versions = ", ".join(f"{name} {number}" for name, number in made_on["versions"].items())
            machine = f"{made_on['processor']}, {made_on['platform']}"
            line = made_on["build"], made_on["date"], machine, versions
            parts.setdefault(line, []).append(part)
    cells = [[line[0], ", ".join(names), *line[1:]] for line, names in parts.items()]
    head = ["Python", "parts", "date", "machine", "libraries"]
    return table(head, sorted(cells, reverse=True)) if cells else NOTHING


def ratios(found: dict[str, Any]) -> str:
    lines: dict[str, dict[str, Any]] = {}
    for row in found["rows"]:
        lines.setdefault(on_loop(row), {})[row["against"]] = row
    cells = []
    for name, to in lines.items():
        theirs, least = to["asyncio"], to.get("floor")
        line = [name, cost(theirs["other"]), cost(theirs["ours"]), times(theirs)]
        line += [cost(least["other"]), f"{least['ratio']:.2f}"] if least else ["-", "-"]
        cells.append(line)
    head = ["ns", "asyncio", "aiofastlock", "asyncio / aiofastlock", "floor", "aiofastlock / floor"]
    return table(head, cells)


def timed(found: dict[str, Any]) -> str:
    tables = []
    for loop in unique(found["rows"], "loop"):
        rows = [row for row in found["rows"] if row["loop"] == loop]
        names = unique(rows, "implementation")
        costs = {(row["row"], row["implementation"]): row["ns"] for row in rows}
        cells = [
            [row, *(cost(costs.get((row, name))) for name in names)] for row in unique(rows, "row")
        ]
        tables.append(table([f"ns, {loop}'s loop", *names], cells))
    return "\n\n".join(tables)


def counts(found: dict[str, Any]) -> str:
    by = {(row["row"], row["implementation"]): row for row in found["rows"]}
    cells = []
    for name in unique(found["rows"], "row"):
        ours = by[name, "compiled"]
        others = (by.get((name, other), {}).get("total") for other in ("asyncio", "floor"))
        line = [ours["own"], ours["total"], *others]
        cells.append([name, *("-" if count is None else f"{count:,.0f}" for count in line)])
    head = ["instructions", "aiofastlock's own", "aiofastlock", "asyncio", "floor"]
    return table(head, cells)


def growth(found: dict[str, Any]) -> str:
    waiters = sorted(unique(found["rows"], "waiters"))
    curves: dict[tuple[str, str], dict[int, float]] = {}
    for row in found["rows"]:
        curves.setdefault((row["work"], row["implementation"]), {})[row["waiters"]] = row["ns"]
    head = ["ns for one of", *(f"{number:,}" for number in waiters)]
    cells = [
        [f"{work}: {name}", *(cost(curve.get(number)) for number in waiters)]
        for (work, name), curve in curves.items()
    ]
    return table(head, cells)


def memory(found: dict[str, Any]) -> str:
    names = unique(found["rows"], "implementation")
    sizes = {(row["row"], row["implementation"]): row["bytes"] for row in found["rows"]}
    cells = [
        [row, *(f"{sizes[row, name]:,.0f}" for name in names), ""]
        for row in unique(found["rows"], "row")
    ]
    peaks = {row["implementation"]: row for row in found["peaks"]}
    tasks = peaks["floor"]["tasks"]
    cells.append(
        [f"{tasks:,} parked tasks, each"]
        + [f"{peaks[name]['bytes'] / tasks:,.0f}" for name in (*names, "floor")]
    )
    return table(["bytes", *names, "bare futures"], cells)


def programs(found: dict[str, Any]) -> str:
    cells = [
        [
            row["program"],
            cost(row["asyncio"]),
            change(row),
            change(row["itself"]),
            ", ".join(f"{number:g} {use}" for use, number in row["uses"].items()),
        ]
        for row in found["rows"]
    ]
    units = unique(found["rows"], "unit")
    head = [", ".join(units), "asyncio", "asyncio / aiofastlock", "asyncio / asyncio", "uses"]
    return table(head, cells)


def watching() -> str:
    """Return a table with a column for each Python, and its last lines of what is done once."""
    found = results.read("watching")
    lines: dict[str, dict[str, str]] = {}
    for python, part in found.items():
        for row in part["rows"]:
            lines.setdefault(row["row"], {})[python] = times(row)
        once = part["once"]
        for name, figure in (
            ("a circle of 1,000 tasks and locks is found in", f"{once['circle'] * 1000:.0f} ms"),
            (f"a snapshot of {once['tasks']:,} parked tasks takes", f"{once['snapshot']:.2f} s"),
            ("the record of a lock that is held", f"{once['bytes']:.0f} bytes"),
        ):
            lines.setdefault(name, {})[python] = figure
    cells = [[name, *(line.get(python, "-") for python in found)] for name, line in lines.items()]
    return table(["", *found], cells) if found else NOTHING


def change(row: dict[str, Any]) -> str:
    low, high = row["spread"]
    return f"{row['change']:.3f} ({low:.3f} to {high:.3f})"


TABLES: dict[str, Callable[[], str]] = {
    "short": short,
    "freeze": freeze,
    "asyncio": lambda: against("asyncio", times),
    "builds": builds,
    "floor": lambda: against("floor", lambda row: f"{row['ratio']:.2f}"),
    "environments": environments,
    "ratios": lambda: by_python("ratios", ratios),
    "timed": lambda: by_python("timed", timed),
    "counts": lambda: by_python("counts", counts),
    "growth": lambda: by_python("growth", growth),
    "memory": lambda: by_python("memory", memory),
    "programs": lambda: by_python("programs", programs),
    "watching": watching,
}


def fill(text: str) -> str:
    """Replace the text between the markers."""

    def replace(match: re.Match[str]) -> str:
        return f"{match[1]}\n\n{TABLES[match[2]]()}\n\n<!-- end -->"

    return re.sub(MARKED, replace, text, flags=re.DOTALL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--into", type=Path, help="write copies to this directory only")
    arguments = parser.parse_args()
    for readme in READMES:
        written = readme
        if arguments.into:
            written = arguments.into / readme.relative_to(HERE.parent)
            written.parent.mkdir(parents=True, exist_ok=True)
        written.write_text(fill(readme.read_text(encoding="utf-8")), encoding="utf-8")
        print(f"wrote {written}")
    for plot in plots.draw((arguments.into or HERE.parent) / "benchmarks" / "plots"):
        print(f"wrote {plot}")


if __name__ == "__main__":
    main()
