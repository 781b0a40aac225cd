"""The programs of README.md and docs/watch.md, and what they print."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import SWITCHES

import aiofastlock
from aiofastlock import watch

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.skipif(not (ROOT / "docs").exists(), reason="needs the documentation")


def blocks(page, kind):
    return re.findall(rf"```{kind}\n(.*?)```", (ROOT / page).read_text("utf-8"), re.DOTALL)


@pytest.mark.parametrize("switch", SWITCHES.values(), ids=SWITCHES)
def test_the_program_that_hangs(tmp_path, switch):
    (program,) = (block for block in blocks("README.md", "python") if "transfer" in block)
    (printed,) = (block for block in blocks("README.md", "text") if "Deadlock" in block)
    (tmp_path / "transfer.py").write_text(program)
    process = subprocess.Popen(
        [sys.executable, "-m", "aiofastlock", "--watch", "transfer.py"],
        cwd=tmp_path,
        env={**os.environ, "AIOFASTLOCK_EXTENSIONS": switch},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        lines = [process.stderr.readline() for _ in printed.splitlines()]
    finally:
        process.kill()
        process.communicate()
    found = "".join(lines).replace(f"{tmp_path}{os.sep}", "")
    assert re.sub(r"for [\d.]+ s", "for 0.0 s", found) == printed


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="the example registers a signal")
def test_the_snapshot_and_production(monkeypatch, capsys):
    production, snapshot, _ = blocks("docs/watch.md", "python")
    monkeypatch.setattr(watch, "register", lambda signum: None)

    async def main():
        exec(production, names)
        lock = aiofastlock.Lock()
        async with lock:
            exec(snapshot, names)

    names = {}

    try:
        asyncio.run(main())
    finally:
        watch.stop()
    assert "Lock lock" in capsys.readouterr().out


def test_metrics():
    prometheus_client = pytest.importorskip("prometheus_client")
    program = blocks("docs/watch.md", "python")[2]
    names = {}
    exec(program, names)

    async def main():
        lock = aiofastlock.Lock()

        async def take():
            async with lock:
                await asyncio.sleep(0)

        await asyncio.gather(take(), take(), take())

    try:
        asyncio.run(main())
        text = prometheus_client.generate_latest().decode()
    finally:
        watch.stop()
        for collector in list(prometheus_client.REGISTRY._collector_to_names):
            if type(collector) is names["LockCollector"]:
                prometheus_client.REGISTRY.unregister(collector)
    line = r'^(lock_\w+)\{kind="Lock",name="made at .*test_watch_docs.py.*"\} (.+)$'
    found = {name: float(value) for name, value in re.findall(line, text, re.MULTILINE)}
    assert found["lock_acquired_total"] == 3
    assert found["lock_waits_total"] == 2
    assert set(found) == {
        "lock_acquired_total",
        "lock_waits_total",
        "lock_wait_seconds_total",
        "lock_hold_seconds_total",
        "lock_longest_wait_seconds",
    }
