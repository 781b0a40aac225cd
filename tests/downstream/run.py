"""Run other people's test suites on asyncio's locks and on aiofastlock's, and compare.

Each package of packages.py gets an environment of its own, with the versions of constraints.txt.
Its suite runs four times: on asyncio's locks, on the compiled implementation, on the pure-Python
one, and on classes that count how they are used. Tests that do not end alike are run again, alone.

With --watched it runs twice instead: on the compiled implementation, and while aiofastlock.watch
watches that, whose reports are shown.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any

from packages import PACKAGES, FailedError, Package

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
RESULTS = HERE / "results.json"
READMES = (REPOSITORY / "README.md", HERE / "README.md")
MARKED = r"(<!-- downstream: (\w+) -->).*?<!-- end -->"

OURS = ("compiled", "pure")
SIDES = ("asyncio", *OURS)
PLUGINS = ("-p", "aiofastlock_downstream")
SWITCH = {"asyncio": {}, "compiled": {"AIOFASTLOCK_EXTENSIONS": "1"}}
SWITCH |= {"pure": {"AIOFASTLOCK_EXTENSIONS": "0"}}
SWITCH |= {"counted": SWITCH["compiled"] | {"DOWNSTREAM_COUNT": "1"}}
SWITCH |= {"watched": SWITCH["compiled"] | {"AIOFASTLOCK_WATCH": "stuck_after=1"}}
LOCKS = {"asyncio": "asyncio.locks", "pure": "pure"}  # of the others: compiled
OPTIONS = ("-q", "--tb=short", "-o", "addopts=", "-p", "no:cacheprovider")

USES = {
    "objects": "locks made",
    "acquires": "acquired",
    "waits": "waited for",
    "queues": "queues made",
    "items": "items put",
    "parked": "parked",
}
OUTCOMES = ("passed", "failed", "error", "skipped")
SECONDS = 900  # for one run of a suite
AGAIN = 5  # runs of a test alone, on each side
MOST_AGAIN = 30  # tests that are run again; more are a failure of another kind

running: set[subprocess.Popen[bytes]] = set()  # each leads a process group of its own


# ---- Environments ----


def call(*command: str | Path, **environment: str) -> None:
    done = subprocess.run(
        command, env={**os.environ, **environment}, text=True, capture_output=True, check=False
    )
    if done.returncode:
        raise FailedError(f"{' '.join(map(str, command))}:\n{done.stdout}{done.stderr}")


def build(work: Path, python: str) -> Path:
    """Return a wheel of this repository, with both implementations."""
    shutil.rmtree(work / "wheel", ignore_errors=True)
    command = ["uv", "build", "-q", "--wheel", "--python", python, "--out-dir", work / "wheel"]
    call(*command, REPOSITORY, AIOFASTLOCK_EXTENSIONS="1")
    return next((work / "wheel").glob("*.whl"))


def unpack(name: str, package: Package, work: Path, python: str) -> Path:
    """Return the directory of a package's sdist, as fresh as it came from PyPI."""
    directory = work / "source"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    if not package.version:
        (directory / "pytest.ini").touch()  # nobody else's configuration is looked for
        return directory
    archives = f"*-{package.version}.tar.gz"
    if not (found := list(work.glob(archives))):
        options = ["--no-deps", "--no-binary", name, "--dest", work]
        pip = ["uv", "tool", "run", "-q", "--python", python, "pip", "download", "-q", *options]
        call(*pip, f"{name}=={package.version}")
        found = list(work.glob(archives))
    with tarfile.open(found[0]) as archive:
        archive.extractall(directory, filter="data")
    source = next(directory.iterdir())
    if (suite := HERE / f"{name.replace('-', '_')}_suite.py").exists():
        shutil.copy(suite, source)
    return source


def install(name: str, package: Package, work: Path, python: str, wheel: Path) -> Path:
    """Return the bin directory of an environment of the package's own."""
    call("uv", "venv", "-q", "--clear", "--python", python, work / "env")
    directory = work / "env" / "bin"
    options = ["-q", "--python", directory / "python", "-c", HERE / "constraints.txt"]
    call("uv", "pip", "install", *options, *package.requirements(name), wheel)
    site = next((work / "env").glob("lib/python*/site-packages"))
    shutil.copy(HERE / "plugin.py", site / "aiofastlock_downstream.py")
    return directory


# ---- Runs ----


def kill(suite: subprocess.Popen[bytes]) -> None:
    """Kill a run that has not ended, and what it has started."""
    if suite.poll() is None:
        os.killpg(suite.pid, signal.SIGKILL)


class Suite:
    """A package's suite, ready to be run."""

    def __init__(self, name: str, work: Path, python: str, wheel: Path) -> None:
        self.name, self.package, self.work = name, PACKAGES[name], work / name
        self.work.mkdir(parents=True, exist_ok=True)
        self.source = unpack(name, self.package, self.work, python)
        self.bin = install(name, self.package, self.work, python, wheel)

    def run(self, side: str, tests: Sequence[str] = ()) -> dict[str, Any]:
        """Run the whole suite, or some tests, and return what the plugin has recorded."""
        package = self.package
        record = self.work / f"{side}.json"
        record.unlink(missing_ok=True)
        command = [self.bin / "pytest", *PLUGINS]
        if side != "asyncio":
            command += ["-p", "aiofastlock.auto"]
        command += [*OPTIONS, *package.arguments]
        ours = {"DOWNSTREAM_RECORD": str(record), "PYTHONHASHSEED": "0", **SWITCH[side]}
        with ExitStack() as stack:
            if package.service:
                command += stack.enter_context(package.service(self.work))
            log = stack.enter_context((self.work / f"{side}.log").open("w"))
            suite = stack.enter_context(
                subprocess.Popen(
                    [*command, *(tests or package.tests)],
                    cwd=self.source,
                    env={**os.environ, **ours},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )
            running.add(suite)
            try:
                suite.wait(SECONDS)
            except subprocess.TimeoutExpired:
                raise FailedError(f"{side}: not done after {SECONDS} s; see {log.name}") from None
            finally:
                kill(suite)
                running.discard(suite)
        if not record.exists():
            raise FailedError(f"{side}: ended early; see {log.name}")
        found: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))
        if found["locks"] != [LOCKS.get(side, "compiled")]:
            raise FailedError(f"{side}: ran on the locks of {found['locks']}")
        if found["watching"] != [side == "watched"]:
            raise FailedError(f"{side}: the watch is off, or on; see {log.name}")
        # An address in the name of a test is another one in each run.
        found["outcomes"] = {
            re.sub("0x[0-9a-f]+", "0x", test): outcome
            for test, outcome in found["outcomes"].items()
        }
        return found

    def again(self, test: str, sides: Sequence[str]) -> dict[str, str]:
        """Run a test alone, some times on each side, and return what became of it how often."""
        found = {}
        for side in sides:
            outcomes = (self.run(side, [test])["outcomes"] for _ in range(AGAIN))
            counts = Counter(run.get(test, "missing") for run in outcomes)
            found[side] = ", ".join(f"{counts[outcome]} {outcome}" for outcome in sorted(counts))
        return found


def compare(
    name: str, work: Path, python: str, wheel: Path, sides: Sequence[str]
) -> tuple[dict[str, Any], list[list[str]]]:
    """Return a package's row of the results, and what the watch has reported in which test."""
    start = monotonic()

    def say(what: str) -> None:
        print(f"{monotonic() - start:5.0f} s  {name}: {what}", flush=True)

    suite = Suite(name, work, python, wheel)
    say("installed")
    runs, counts = {}, {}
    for side in sides:
        found = suite.run(side)
        runs[side] = found["outcomes"]
        counts[side] = dict(sorted(Counter(found["outcomes"].values()).items()))
        say(f"{side}: {', '.join(f'{n} {outcome}' for outcome, n in counts[side].items())}")
        if not counts[side].get("passed"):
            raise FailedError(f"{side}: no test passes; see the log beside its environment")
    if "counted" in runs:
        del runs["counted"], counts["counted"]
        if not any(found["uses"].values()):  # a package's own subclass may have but the class
            raise FailedError("it uses none of our locks: the proof is empty")
    differing = [
        test
        for test in dict.fromkeys(test for outcomes in runs.values() for test in outcomes)
        if len({outcomes.get(test) for outcomes in runs.values()}) > 1
    ]
    if len(differing) > MOST_AGAIN:
        raise FailedError(f"{len(differing)} tests differ, such as {differing[0]}")
    differences = {}
    for test in differing:
        say(f"again, alone: {test}")
        alone = suite.again(test, list(runs))
        first = {side: outcomes.get(test, "missing") for side, outcomes in runs.items()}
        settled = "flaky" if len(set(alone.values())) == 1 else "different"
        differences[test] = {"first": first, "alone": alone, "verdict": settled}
        say(f"{settled}: {alone}")
    made_on = platform.python_version(), platform.system(), platform.machine()
    row = {
        "package": name,
        "version": suite.package.version or platform.python_version(),
        "made on": f"Python {', '.join(made_on)}, {datetime.now(UTC).date()}",
        "counts": counts,
        "uses": found["uses"],
        "differences": differences,
    }
    return row, found["reports"]


# ---- The report ----


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def ran(row: dict[str, Any], side: str) -> int:
    return sum(n for outcome, n in row["counts"][side].items() if outcome != "skipped")


def verdict(row: dict[str, Any]) -> str:
    verdicts = Counter(found["verdict"] for found in row["differences"].values())
    if verdicts["different"]:
        return f"**no: {verdicts['different']}**"
    return f"yes, {verdicts['flaky']} flaky" if verdicts else "yes"


def short(results: Sequence[dict[str, Any]]) -> str:
    head = ["package", "version", "tests run", "the same"]
    rows = [
        [row["package"], row["version"], f"{ran(row, 'asyncio'):,}", verdict(row)]
        + [f"{row['uses'][use]:,}" if use in row["uses"] else "-" for use in USES]
        for row in results
    ]
    made_on = dict.fromkeys(row["made on"] for row in results)
    return f"{table([*head, *USES.values()], rows)}\n\n{'; '.join(made_on)}."


def sides(results: Sequence[dict[str, Any]]) -> str:
    rows = []
    for row in results:
        for side in SIDES:
            counts = row["counts"][side]
            rows.append([row["package"], side, *(f"{counts.get(what, 0):,}" for what in OUTCOMES)])
    return table(["package", "locks", *OUTCOMES], rows)


def apart(results: Sequence[dict[str, Any]]) -> str:
    lines = []
    for row in results:
        for test, found in row["differences"].items():
            how = "; ".join(
                f"{side} {found['first'][side]}, then {found['alone'][side]}" for side in SIDES
            )
            lines.append(f"- {row['package']}, `{test}`: {how}: {found['verdict']}")
    return "\n".join(lines) or "None."


def unexplained(name: str, reports: Sequence[Sequence[str]]) -> bool:
    """Show what the watch has reported; return whether the list of true reports lacks any of it."""
    true = READMES[-1].read_text(encoding="utf-8")
    lacking = False
    for test, text in reports:
        is_true = f"- {name}, `{test}`" in true
        lacking |= not is_true
        print(f"\n{name}, `{test}`: {'true' if is_true else 'not explained'}\n{text}")
    return lacking


TABLES = {"table": short, "sides": sides, "apart": apart}


def report(results: Sequence[dict[str, Any]]) -> None:
    for readme in READMES:
        text = readme.read_text(encoding="utf-8")
        filled = re.sub(
            MARKED,
            lambda match: f"{match[1]}\n\n{TABLES[match[2]](results)}\n\n<!-- end -->",
            text,
            flags=re.DOTALL,
        )
        readme.write_text(filled, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("packages", nargs="*", metavar="PACKAGE", help=", ".join(PACKAGES))
    parser.add_argument("--requirements", action="store_true", help="print what is to be pinned")
    parser.add_argument("--watched", action="store_true", help="show what the watch reports")
    parser.add_argument("--work", type=Path, default=REPOSITORY / ".downstream_cache")
    arguments = parser.parse_args()
    if arguments.requirements:
        wanted = {need for name in PACKAGES for need in PACKAGES[name].requirements(name)}
        print(*sorted(wanted), sep="\n")
        return
    names = arguments.packages or list(PACKAGES)
    if unknown := set(names) - set(PACKAGES):
        parser.error(f"not one of {', '.join(PACKAGES)}: {', '.join(unknown)}")
    for name in names.copy():
        before = PACKAGES[name].before
        if before and sys.version_info >= before:
            print(f"{name}: left out, it needs a Python before {before[0]}.{before[1]}")
            names.remove(name)
    work = arguments.work.resolve()
    wheel = build(work, sys.executable)
    sides = ("compiled", "watched") if arguments.watched else (*SIDES, "counted")
    made: dict[str, Any] = {}
    reports: dict[str, list[list[str]]] = {}
    failed: dict[str, str] = {}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        compared = {
            pool.submit(compare, name, work, sys.executable, wheel, sides): name for name in names
        }
        try:
            for row in as_completed(compared):
                name = compared[row]
                try:
                    made[name], reports[name] = row.result()
                except FailedError as error:
                    failed[name] = str(error)
                    print(f"*** {name}: {error} ***", flush=True)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for suite in list(running):
                kill(suite)
    different = [name for name in made if "no" in verdict(made[name])]
    if arguments.watched:
        different += [name for name in made if unexplained(name, reports[name])]
    else:
        known = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else []
        rows = {row["package"]: row for row in known} | made
        results = [rows[name] for name in PACKAGES if name in rows]
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        report(results)
        print(short(results))
    if failed or different:
        sys.exit(f"no proof: {', '.join(failed)}; differences: {', '.join(different)}")


if __name__ == "__main__":
    main()
