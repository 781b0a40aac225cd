"""Read and write results/<part>-<Python>.json, which name the environment of a measurement."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shlex
import sys
import sysconfig
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiofastlock
from aiofastlock._benchmark import describe_python

HERE = Path(__file__).resolve().parent
# run.py --quick sets another directory, because its figures are not worth keeping.
RESULTS = Path(os.environ.get("BENCHMARK_RESULTS", HERE / "results"))
LIBRARIES = ("aiofastlock", "anyio", "aiologic", "ez-a-sync", "uvloop", "pyperf", "cython")


def python_name() -> str:
    """Return the version as 3.15, or as 3.15t if this Python is free-threaded."""
    free_threaded = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
    return f"{sys.version_info[0]}.{sys.version_info[1]}{free_threaded}"


def processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def flags(variable: str) -> str:
    """Return a build variable of this Python without paths, which differ between machines."""
    value = str(sysconfig.get_config_var(variable) or "")
    return shlex.join(flag for flag in shlex.split(value) if "/" not in flag)


def versions() -> dict[str, str]:
    found = {}
    for library in LIBRARIES:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def environment() -> dict[str, Any]:
    """Return what is measured and on what, without anything that identifies the machine's owner."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": processor(),
        "platform": f"{platform.system()} {platform.machine()}, {' '.join(platform.libc_ver())}",
        "python": sys.version,
        "build": describe_python(),
        "flags": {name: flags(name) for name in ("CONFIG_ARGS", "OPT", "CFLAGS")},
        "implementation": aiofastlock.IMPLEMENTATION,
        "versions": versions(),
    }


def write(part: str, rows: list[dict[str, Any]], **more: Any) -> Path:
    """Write a part's rows together with the environment, and return the file's path."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    file = RESULTS / f"{part}-{python_name()}.json"
    found = {"environment": environment(), **more, "rows": rows}
    file.write_text(json.dumps(found, indent=1) + "\n")
    return file


def read(part: str) -> dict[str, Any]:
    """Return the results of a part by Python, the oldest first."""
    found = {}
    for file in RESULTS.glob(f"{part}-3.*.json"):
        python = file.stem.rpartition("-")[2]
        found[python] = json.loads(file.read_text(encoding="utf-8"))
    return dict(sorted(found.items(), key=lambda item: (int(item[0][2:].rstrip("t")), item[0])))
