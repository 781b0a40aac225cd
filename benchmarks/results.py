"""Where results are kept: benchmarks/results/<part>-<Python>.json, with what they were measured on."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import shlex
import sys
import sysconfig
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiofastlock
from aiofastlock._benchmark import describe_python

RESULTS = Path(__file__).resolve().parent / "results"
LIBRARIES = ("aiofastlock", "anyio", "aiologic", "ez-a-sync", "uvloop", "pyperf", "cython")


def python_name() -> str:
    """Return such as 3.15, or 3.15t where that is free-threaded."""
    free_threaded = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
    return f"{sys.version_info[0]}.{sys.version_info[1]}{free_threaded}"


def processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def flags(variable: str) -> str:
    """Return a build variable of this Python without paths, which say where and not how."""
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
    """Say what is measured and on what; nothing that tells whose machine it is."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": processor(),
        "platform": f"{platform.system()} {platform.machine()}, {' '.join(platform.libc_ver())}",
        "python": sys.version,
        "build": describe_python(),
        "flags": {name: flags(name) for name in ("CONFIG_ARGS", "OPT", "CFLAGS")},
        "half": aiofastlock.IMPLEMENTATION,
        "versions": versions(),
    }


def path(part: str, python: str | None = None) -> Path:
    return RESULTS / f"{part}-{python or python_name()}.json"


def write(part: str, rows: list[dict[str, Any]], directory: Path = RESULTS, **more: Any) -> Path:
    """Write a part's rows, with the environment beside them."""
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / path(part).name
    file.write_text(json.dumps({"environment": environment(), **more, "rows": rows}, indent=1) + "\n")
    return file
