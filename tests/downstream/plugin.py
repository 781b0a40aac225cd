"""A pytest plugin for run.py: what became of each test, on whose locks, and how they were used.

It is copied into each environment. DOWNSTREAM_RECORD names the file to write. With
DOWNSTREAM_COUNT, subclasses that count stand in the place of aiofastlock's classes; what calls a
subclass takes other ways through the locks, so that such a run proves nothing else. With
AIOFASTLOCK_WATCH, it also records what is reported, and in which test.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

outcomes: dict[str, str] = {}
uses: Counter[str] = Counter(objects=0, acquires=0, waits=0, queues=0, items=0, parked=0)
locks: set[str] = set()  # whose asyncio.Lock and asyncio.Queue were found to be
watching: set[bool] = set()  # whether aiofastlock.watch was found to be on
reports: list[tuple[str, str]] = []  # a test, and what the watch has reported in it


class Watched:
    """An await that counts how often its task has to wait."""

    def __init__(self, awaitable: Any) -> None:
        self.steps = awaitable.__await__()
        self.throw = self.steps.throw
        self.close = self.steps.close

    def __await__(self) -> Watched:
        return self

    def __next__(self) -> Any:
        waited_for = next(self.steps)
        uses["parked"] += 1
        return waited_for


def counting(primitive: Any) -> type:
    """Return a subclass that counts how many are made, and what is awaited of them."""

    def count(method: str, use: str | None) -> Any:
        original = getattr(primitive, method)

        async def counted(self: Any, *args: Any) -> Any:
            if use:
                uses[use] += 1
            return await Watched(original(self, *args))

        counted.__name__ = method
        return counted

    def new(cls: type, *args: Any, **kwargs: Any) -> Any:  # subclasses may not call __init__()
        uses["queues" if is_queue else "objects"] += 1
        return primitive.__new__(cls, *args, **kwargs)

    def put_nowait(self: Any, item: Any) -> None:  # put() calls it, too
        primitive.put_nowait(self, item)
        uses["items"] += 1

    is_queue = hasattr(primitive, "put_nowait")
    methods = {"acquire": "acquires", "wait": "waits", "put": None, "get": None}
    counted = {name: count(name, use) for name, use in methods.items() if hasattr(primitive, name)}
    if is_queue:
        counted["put_nowait"] = put_nowait
    return type(primitive.__name__, (primitive,), {"__new__": new, **counted})


def count_all() -> None:
    import aiofastlock
    from aiofastlock import _implementation  # from where install() takes them

    for name in set(aiofastlock.__all__) & {*asyncio.locks.__all__, *asyncio.queues.__all__}:
        primitive = getattr(aiofastlock, name)
        if not issubclass(primitive, Exception):
            counted = counting(primitive)
            for module in (aiofastlock, _implementation):
                setattr(module, name, counted)


if os.environ.get("DOWNSTREAM_COUNT"):
    count_all()  # before aiofastlock.auto installs what it finds


class Reports(logging.Logger):
    """In the place of the watch's logger. No test can find it, to change it or to see reports."""

    test = ""  # that runs

    def handle(self, record: logging.LogRecord) -> None:
        reports.append((self.test, logging.Formatter().format(record)))


if os.environ.get("AIOFASTLOCK_WATCH"):
    from aiofastlock.watch import _watching

    _watching.logger = Reports("aiofastlock.watch")


@pytest.fixture
async def event_loop() -> asyncio.AbstractEventLoop:
    """pytest-asyncio had this fixture until 1.0, and zigpy's tests use it."""
    return asyncio.get_running_loop()


def look() -> None:
    ours = sys.modules.get("aiofastlock")
    installed = ours is not None and asyncio.Lock is asyncio.locks.Lock is ours.Lock
    installed = installed and asyncio.Queue is asyncio.queues.Queue is ours.Queue
    locks.add(ours.IMPLEMENTATION if installed else asyncio.Lock.__module__)
    watch = sys.modules.get("aiofastlock.watch")
    watching.add(watch is not None and watch.is_watching())


def pytest_sessionstart() -> None:
    look()


def pytest_runtest_logstart(nodeid: str) -> None:
    Reports.test = nodeid


def pytest_runtest_logreport(report: Any) -> None:
    # One that was called and whose teardown fails is an error, whatever came of the call.
    if report.failed and report.when != "call":
        outcomes[report.nodeid] = "error"
    elif report.when == "call" or report.skipped:
        worst = outcomes.get(report.nodeid) == "failed"  # of subtests
        outcomes[report.nodeid] = "failed" if worst else report.outcome


def pytest_collectreport(report: Any) -> None:
    if report.failed:
        outcomes[report.nodeid] = "error"


def pytest_sessionfinish() -> None:
    look()
    record = {
        "outcomes": outcomes,
        "uses": uses,
        "locks": sorted(locks),
        "watching": sorted(watching),
        "reports": reports,
    }
    Path(os.environ["DOWNSTREAM_RECORD"]).write_text(json.dumps(record), encoding="utf-8")
