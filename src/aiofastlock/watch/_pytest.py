"""pytest -p aiofastlock.watch: run a test suite on aiofastlock's classes, and watch it."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Generator
from typing import Any

import pytest

import aiofastlock
from aiofastlock import watch
from aiofastlock._pure.recorder import kind_of
from aiofastlock.watch import _deadlocks, _tasks, _text
from aiofastlock.watch._types import label

aiofastlock.install()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("aiofastlock", "aiofastlock.watch")
    group.addoption(
        "--stuck-after",
        type=float,
        default=5.0,
        metavar="SECONDS",
        help="report what waits for a lock that does not move for so long (default: 5)",
    )
    group.addoption(
        "--lock-order",
        action="store_true",
        help="fail tests that acquire two locks in both orders",
    )
    group.addoption(
        "--lock-order-each",
        action="store_true",
        help="the same, also for locks that are made at the same place",
    )


def pytest_configure(config: pytest.Config) -> None:
    options = config.option
    try:
        watch.start(
            stuck_after=options.stuck_after,
            on_deadlock="raise",
            order="each" if options.lock_order_each else options.lock_order,
        )
    except ValueError as error:
        raise pytest.UsageError(f"--stuck-after: {error}") from None
    config.pluginmanager.register(Plugin(), "aiofastlock-watch")


class Plugin:
    def __init__(self) -> None:
        self.item: pytest.Item | None = None
        self.interrupted = ""  # what was stuck at a Ctrl-C
        self.orders: list[str] = []
        self.known: set[tuple[int, int]] = set()  # holds that failed a test
        self.on_sigint = asyncio.Runner._on_sigint  # type: ignore[attr-defined]
        modules: dict[str, Any] = sys.modules
        self.timeouts = modules.get("pytest_timeout")
        if self.timeouts is not None:
            self.dump_stacks = self.timeouts.dump_stacks
            self.timeouts.dump_stacks = self.at_timeout
        plugin = self

        def on_sigint(runner: Any, *arguments: Any, **keywords: Any) -> None:
            plugin.at_interrupt()
            plugin.on_sigint(runner, *arguments, **keywords)

        asyncio.Runner._on_sigint = on_sigint  # type: ignore[attr-defined]
        self.handler = logging.Handler()
        self.handler.emit = self.logged  # type: ignore[method-assign]
        logging.getLogger("aiofastlock.watch").addHandler(self.handler)

    def pytest_unconfigure(self) -> None:
        watch.stop()
        logging.getLogger("aiofastlock.watch").removeHandler(self.handler)
        asyncio.Runner._on_sigint = self.on_sigint  # type: ignore[attr-defined]
        if self.timeouts is not None:
            self.timeouts.dump_stacks = self.dump_stacks

    # ---- What was stuck: when a test is ended from outside, before its tasks are cancelled ----

    def at_timeout(self, terminal: Any) -> None:
        """In the place of a function of pytest-timeout, which it calls at each timeout."""
        self.dump_stacks(terminal)
        text = stuck()
        if text and threading.current_thread() is threading.main_thread() and self.item:
            self.item.add_report_section("call", "aiofastlock.watch", text)
        elif text:  # the process ends
            terminal.sep("~", title="aiofastlock.watch")
            terminal.write(text)

    def at_interrupt(self) -> None:
        self.interrupted = self.interrupted or stuck()

    def pytest_keyboard_interrupt(self) -> None:
        self.at_interrupt()

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self.interrupted:
            terminalreporter.section("aiofastlock.watch, at the interrupt")
            terminalreporter.write(self.interrupted)

    # ---- Tests that fail ----

    def logged(self, record: logging.LogRecord) -> None:
        if hasattr(record, "order"):
            self.orders.append(record.getMessage())

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        self.item = item
        try:
            return (yield)
        finally:
            self.item = None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self) -> Generator[None, object, object]:
        result = yield
        texts = [*self.orders, *self.left_held()]
        self.orders.clear()
        if texts:
            pytest.fail("\n".join(texts), pytrace=False)
        return result

    def left_held(self) -> list[str]:
        """What tests have left held by tasks that have ended. Such permits may be signals."""
        texts = []
        for hold in _tasks.recorder.holds():
            key = id(hold.primitive), id(hold.task)
            if (
                _deadlocks.has_ended(hold)
                and kind_of(hold.primitive) == "Lock"
                and not _tasks.recorder.released_by_others(hold.primitive)
                and not _tasks.suspended_inside(hold.primitive)
                and key not in self.known
            ):
                self.known.add(key)
                name = _text.name_of(hold.primitive, [])
                by = "a task" if hold.task is None else label(hold.task)
                texts.append(f"Lock {name} is left held by {by}, which has ended.")
        return texts


def stuck() -> str:
    snapshot = watch.snapshot()
    return str(snapshot) if snapshot.primitives else ""
