"""Are the figures and commands of the documentation still true?

    python tests/figures.py [--minutes N] [FILE...]

figures.toml lists the figures that README.md and the other pages state, outside of the tables that
benchmarks/report.py and tests/downstream/run.py write, each with the command that prints it. This
runs those commands, of the given pages or of all, and lists what differs. It exits with 1 if
anything does. Commands that take more than N minutes (2) are left out, and listed.
"""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")


def plain_text(page: str) -> str:
    """The text of a page, with its lines joined: a sentence may be wrapped anywhere."""
    return " ".join((ROOT / page).read_text(encoding="utf-8").split())


def numbers(text: str) -> list[float]:
    return [float(number.replace(",", "")) for number in NUMBER.findall(text)]


def output_of(command: str, outputs: dict[str, str]) -> str:
    """What a command prints; a command that several figures share runs once."""
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
        outputs[command] = done.stdout + f"\nexit code {done.returncode}\n"
    return outputs[command]


def differences(entry: dict[str, Any], outputs: dict[str, str]) -> Iterator[str]:
    """Compare what a page states with what the command prints."""
    if entry["text"] not in plain_text(entry["page"]):
        yield "the page does not have this text any more"
        return
    output = output_of(entry["command"], outputs)
    found = re.search(entry["prints"], output, re.MULTILINE)
    if found is None:
        yield f"`{entry['command']}` does not print {entry['prints']!r}:\n{output[-2000:]}"
        return
    printed = [number for group in found.groups() for number in numbers(group)]
    stated = numbers(entry["text"])[: len(printed)]
    within = entry.get("within", 0.0)
    if len(stated) != len(printed) or any(
        abs(a - b) > within * abs(b) for a, b in zip(stated, printed, strict=True)
    ):
        yield f"`{entry['command']}` prints {', '.join(found.groups())}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=2, help="how long a command may take (2)")
    parser.add_argument("pages", nargs="*", metavar="FILE", help="such as README.md (all)")
    options = parser.parse_args()
    entries = tomllib.loads((Path(__file__).with_suffix(".toml")).read_text())["figure"]
    outputs: dict[str, str] = {}
    wrong = left_out = 0
    for entry in entries:
        if options.pages and entry["page"] not in options.pages:
            continue
        if entry.get("minutes", 0) > options.minutes:
            left_out += 1
            print(f"left out: {entry['page']}: {entry['text']!r}: `{entry['command']}`")
            continue
        for difference in differences(entry, outputs):
            wrong += 1
            print(f"DIFFERS: {entry['page']}: {entry['text']!r}: {difference}")
    print(f"{len(entries)} figures, {left_out} left out, {wrong} differ")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
