"""Draw the uncontended operations beside their floors, and costs by the number of waiters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import results

# The contrast is 4:1 or more, both on white and on GitHub's dark background.
GREY = "#777b80"
COLOURS = {"asyncio": "#c9701c", "aiofastlock": "#2f7ff0", "floor": "#c2418f"}
STYLE = {
    "svg.hashsalt": "aiofastlock",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": GREY,
    "axes.facecolor": "none",
    "axes.labelcolor": GREY,
    "axes.edgecolor": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "legend.frameon": False,
    "savefig.transparent": True,
}
BARS = {
    "async with lock": "async with lock",
    "async with semaphore": "async with semaphore",
    "async with bounded semaphore": "async with bounded semaphore",
    "async with condition": "async with condition",
    "lock: acquire(), release()": "lock.acquire(), release()",
    "semaphore: acquire(), release()": "semaphore.acquire(), release()",
    "event: wait() when set": "event.wait(), set",
    "queue: await put(), await get()": "queue.put(), get()",
}


def uncontended(found: dict[str, Any], plt: Any) -> Any:
    """Draw a pair of bars for each row, and the floor as a line across aiofastlock's bar."""
    rows = {(row["row"], row["against"]): row for row in found["rows"] if row["loop"] == "asyncio"}
    names = [name for name in BARS if (name, "floor") in rows]
    figure, axes = plt.subplots(figsize=(8.2, 0.3 + 0.52 * len(names)))
    for number, name in enumerate(names):
        theirs, least = rows[name, "asyncio"], rows[name, "floor"]
        figures = {
            "asyncio": f"{theirs['other']:.0f}",
            "aiofastlock": f"{theirs['ours']:.0f} ({theirs['ratio']:.1f}x)",
        }
        ends = {"asyncio": theirs["other"], "aiofastlock": max(theirs["ours"], least["other"])}
        bars = (("asyncio", theirs["other"]), ("aiofastlock", theirs["ours"]))
        for offset, (whose, nanoseconds) in zip((-0.2, 0.2), bars, strict=True):
            label = whose if not number else None
            axes.barh(number + offset, nanoseconds, 0.36, color=COLOURS[whose], label=label)
            axes.annotate(
                figures[whose],
                (ends[whose], number + offset),  # to the right of the floor's line, too
                (5, 0),
                textcoords="offset points",
                va="center",
                fontsize=9,
            )
        label = None if number else "floor: C that does nothing"
        line = [number, number + 0.4]
        axes.plot([least["other"]] * 2, line, color=COLOURS["floor"], linewidth=2, label=label)
    axes.set_yticks(range(len(names)), [BARS[name] for name in names])
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(f"ns, without contention ({found['environment']['build']})")
    axes.legend(loc="lower right")
    return figure


def growth(found: dict[str, Any], plt: Any) -> Any:
    """Draw a panel with logarithmic axes for each work."""
    works = list(dict.fromkeys(row["work"] for row in found["rows"]))
    columns = 4
    lines = -(-(len(works) + 1) // columns)
    figure, grid = plt.subplots(
        lines, columns, figsize=(10, 2.6 * lines), sharex=True, sharey=True, squeeze=False
    )
    panels = list(grid.flat)
    names = {
        "asyncio": "asyncio, up to 4 s\nfor all waiters",
        "floor": "futures without a lock",
    }
    for axes, work in zip(panels, works, strict=False):
        for whose, colour in COLOURS.items():
            points = [
                (row["waiters"], row["ns"] / 1000)
                for row in found["rows"]
                if row["work"] == work and row["implementation"] == whose
            ]
            if points:
                style = "--" if whose == "floor" else "-"
                label = names.get(whose, whose)
                axes.plot(*zip(*points, strict=True), style, color=colour, marker=".", label=label)
        axes.set_title(work.replace(" behind a ", "\nbehind a "), fontsize=10)
        axes.set(xscale="log", yscale="log")
        axes.minorticks_off()
        axes.xaxis.set_major_formatter(lambda waiters, _: f"{waiters / 1000:g}")
        axes.yaxis.set_major_formatter("{x:g}")
    legend = panels[len(works)]
    legend.legend(*panels[0].get_legend_handles_labels(), loc="center")
    for axes in panels[len(works) :]:
        axes.axis("off")
    for axes in panels[max(len(works) - columns, 0) : len(works)]:
        axes.tick_params(labelbottom=True)
        axes.set_xlabel("thousand waiters")
    for axes in grid[:, 0]:
        axes.set_ylabel("µs for one waiter")
    return figure


PLOTS = {"uncontended": ("ratios", uncontended), "growth": ("growth", growth)}


def draw(directory: Path) -> Iterator[Path]:
    """Draw the newest Python's results; the same figures make the same file."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    for name, (part, plot) in PLOTS.items():
        found = results.read(part)
        if not found:
            continue
        *_, newest = found.values()
        with mpl.rc_context(STYLE):
            figure = plot(newest, plt)
            directory.mkdir(parents=True, exist_ok=True)
            file = directory / f"{name}.svg"
            metadata = {"Date": None, "Creator": None}
            figure.savefig(file, metadata=metadata, bbox_inches="tight")
            plt.close(figure)
        yield file
