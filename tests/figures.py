"""Are the figures in the documentation still true?

    python tests/figures.py [--minutes N] [FILE...]

figures.toml lists the figures that pages state in their text, each with the command that prints it.
This runs those commands, for the given pages or for all, lists what differs, and exits with 1 if
anything does. A command that takes more than N minutes (2) is left out, and listed. Tables are not
in the list: benchmarks/report.py and tests/downstream/run.py write them. This checks that they are
what benchmarks/report.py would write.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TABLES = ("README.md", "benchmarks/README.md")
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")


def run(command: str, outputs: dict[str, str]) -> str:
    """Return what a command prints. One that several figures share runs once."""
    if command not in outputs:
        arguments = shlex.split(command)
        if arguments[0] == "python":
            arguments[0] = sys.executable
        done = subprocess.run(
            arguments,
            check=False,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        outputs[command] = done.stdout
    return outputs[command]


def numbers(text: str) -> list[float]:
    return [float(number.replace(",", "")) for number in NUMBER.findall(text)]


def differences(entry: dict[str, Any], outputs: dict[str, str]) -> Iterator[str]:
    """Compare what a page states with what the command prints."""
    page = " ".join((ROOT / entry["page"]).read_text(encoding="utf-8").split())
    if entry["text"] not in page:
        yield "the page no longer has this text"
        return
    output = run(entry["command"], outputs)
    found = re.search(entry["prints"], output, re.MULTILINE)
    if found is None:
        yield f"`{entry['command']}` prints no such line, but\n{output[-1000:]}"
        return
    printed = [number for group in found.groups() for number in numbers(group)]
    stated = numbers(entry["text"])[: len(printed)]
    within = entry.get("within", 0)
    if any(abs(a - b) > within * b for a, b in zip(stated, printed, strict=True)):
        yield f"`{entry['command']}` prints {', '.join(found.groups())}"


def stale_tables() -> Iterator[str]:
    """The pages whose tables are not those of benchmarks/results."""
    with tempfile.TemporaryDirectory() as folder:
        report = [sys.executable, "benchmarks/report.py", "--into", folder]
        subprocess.run(report, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
        for page in TABLES:
            if Path(folder, page).read_text("utf-8") != (ROOT / page).read_text("utf-8"):
                yield page


# ---- Figures that no other command prints ----


def count_allocations() -> str:
    from test_allocations import OPERATIONS

    return f"{len(OPERATIONS)} allocations: operations of each"


def count_schedules() -> str:
    from schedules import SCENES

    return f"{600 * len(SCENES):,} schedules by default"


def count_programs() -> str:
    changes = [
        abs(row["change"] - 1)
        for path in sorted((ROOT / "benchmarks" / "results").glob("programs-*.json"))
        for row in json.loads(path.read_text("utf-8"))["rows"]
    ]
    return f"{round(100 * max(changes))} % at most, the change of a program"


def count_entering() -> str:
    path = max((ROOT / "benchmarks" / "results").glob("ratios-*.json"))
    rows = json.loads(path.read_text("utf-8"))["rows"]
    (ratio,) = (
        row["ratio"]
        for row in rows
        if (row["row"], row["loop"], row["against"]) == ("async with lock", "asyncio", "asyncio")
    )
    return f"{100 / ratio:.1f} % of asyncio's time, for `async with lock`"


COUNTS = {
    "allocations": count_allocations,
    "schedules": count_schedules,
    "programs": count_programs,
    "entering": count_entering,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=2, help="how long a command may take (2)")
    parser.add_argument("--count", choices=COUNTS, help="print one figure, for figures.toml")
    parser.add_argument("pages", nargs="*", metavar="FILE", help="such as README.md (all)")
    options = parser.parse_args()
    if options.count:
        print(COUNTS[options.count]())
        return 0
    entries = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))["figure"]
    chosen = [entry for entry in entries if not options.pages or entry["page"] in options.pages]
    outputs: dict[str, str] = {}
    wrong = [f"{page}: the tables are not those of benchmarks/results" for page in stale_tables()]
    for entry in chosen:
        name = f"{entry['page']}: {entry['text']!r}"
        if entry.get("minutes", 0) > options.minutes:
            print(f"left out, {entry['minutes']} minutes: {name}: `{entry['command']}`")
            continue
        wrong += [f"{name}: {difference}" for difference in differences(entry, outputs)]
    for line in wrong:
        print(f"DIFFERS: {line}")
    print(f"{len(chosen)} figures, {len(wrong)} differences")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
