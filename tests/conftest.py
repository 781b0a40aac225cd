"""One suite over three implementations: asyncio's own locks, the oracle, and both of our halves."""

import asyncio
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import aiofastlock
from aiofastlock._pure import lock as pure_lock


def implementations():
    """What can be tested here: the compiled half unless it is switched off or not there."""
    found = {"asyncio": asyncio.Lock, "pure": pure_lock.Lock}
    if aiofastlock.IMPLEMENTATION == "compiled":
        found["compiled"] = aiofastlock.Lock
    return {name: SimpleNamespace(Lock=lock) for name, lock in found.items()}


IMPLEMENTATIONS = implementations()
OURS = {name: found for name, found in IMPLEMENTATIONS.items() if name != "asyncio"}


def pytest_addoption(parser):
    parser.addoption(
        "--schedules",
        type=int,
        default=3000,
        help="how many random schedules to run on all implementations (default: 3000)",
    )


def pytest_report_header():
    switch = os.environ.get("AIOFASTLOCK_EXTENSIONS", "unset")
    return (
        f"aiofastlock: {aiofastlock.IMPLEMENTATION} (AIOFASTLOCK_EXTENSIONS {switch}), "
        f"from {Path(aiofastlock.__file__).parent}; tested: {', '.join(IMPLEMENTATIONS)}"
    )


@pytest.fixture(params=IMPLEMENTATIONS)
def implementation(request):
    return request.param


@pytest.fixture
def Lock(implementation):
    return IMPLEMENTATIONS[implementation].Lock


@pytest.fixture
def mended(request, implementation):
    """A fault of asyncio's, which ours do not have: the test must fail on asyncio."""
    if implementation == "asyncio":
        request.applymarker(pytest.mark.xfail(strict=True, reason="a fault of asyncio's"))


@pytest.fixture(params=OURS)
def our_name(request):
    return request.param


@pytest.fixture
def OurLock(our_name):
    return OURS[our_name].Lock


needs_refcounts = pytest.mark.skipif(
    sys.implementation.name != "cpython", reason="needs objects to die when they are dropped"
)
