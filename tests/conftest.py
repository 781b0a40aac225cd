"""One suite for three implementations: asyncio's, the oracle, and both of aiofastlock's."""

import asyncio
import gc
import importlib
import logging
import os
import random
import sys
import sysconfig
from pathlib import Path

import pytest

import aiofastlock
from aiofastlock import _pure

# What can be tested here: without the compiled implementation if it is switched off or missing.
IMPLEMENTATIONS = {"asyncio": asyncio, "pure": _pure}
if aiofastlock.IMPLEMENTATION == "compiled":
    IMPLEMENTATIONS["compiled"] = aiofastlock
OURS = {name: found for name, found in IMPLEMENTATIONS.items() if name != "asyncio"}
# The value of AIOFASTLOCK_EXTENSIONS that selects each of them in another process.
SWITCHES = {name: {"compiled": "1", "pure": "0"}[name] for name in OURS}
PRIMITIVES = ("Lock", "Event", "Condition", "Semaphore", "BoundedSemaphore", "Barrier")
QUEUES = ("Queue", "LifoQueue", "PriorityQueue")
CLASSES = (*PRIMITIVES, *QUEUES)
OWN = ("RWLock",)  # that asyncio does not have


def pytest_addoption(parser):
    parser.addoption(
        "--schedules",
        type=int,
        default=600,
        help="how many random schedules of each scene to run (default: 600)",
    )
    parser.addoption("--seed", type=int, help="of the random schedules (default: a new one)")
    parser.addoption(
        "--loop",
        choices=("asyncio", "uvloop"),
        default="asyncio",
        help="whose event loop the async tests run on (default: asyncio)",
    )
    parser.addoption(
        "--ours",
        action="store_true",
        help="run no test on asyncio's own primitives",
    )
    parser.addoption(
        "--watched",
        action="store_true",
        help="run the tests while aiofastlock.watch records, which must not change anything",
    )


def pytest_collection_modifyitems(config, items):
    if config.option.ours:
        theirs = [item for item in items if implementation_of(item) == "asyncio"]
        config.hook.pytest_deselected(items=theirs)
        items[:] = [item for item in items if implementation_of(item) != "asyncio"]


def implementation_of(item):
    return item.callspec.params.get("implementation") if hasattr(item, "callspec") else None


def pytest_asyncio_loop_factories(config, item):
    name = config.getoption("loop")
    return {name: importlib.import_module(name).new_event_loop}


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node):  # of pytest-xdist
    node.workerinput["seed"] = node.config.option.seed


def pytest_configure(config):
    if hasattr(config, "workerinput"):
        config.option.seed = config.workerinput["seed"]
    elif config.option.seed is None:
        config.option.seed = random.SystemRandom().randrange(10**9)
    if config.option.watched:
        logging.getLogger(
            "aiofastlock.watch"
        ).disabled = True  # the tests' deadlocks are on purpose
        importlib.import_module("aiofastlock.watch").start()


def pytest_ignore_collect(collection_path, config):
    # These start and stop the watch themselves.
    return (config.option.watched and collection_path.name.startswith("test_watch")) or None


def pytest_runtest_teardown(item):
    if item.config.option.watched:
        assert sys.modules["aiofastlock.watch"].is_watching(), "a fault has turned it off"


def pytest_report_header(config):
    switch = os.environ.get("AIOFASTLOCK_EXTENSIONS", "unset")
    return (
        f"aiofastlock: {aiofastlock.IMPLEMENTATION} (AIOFASTLOCK_EXTENSIONS {switch}), "
        f"from {Path(aiofastlock.__file__).parent}; tested: {', '.join(IMPLEMENTATIONS)}; "
        f"schedules: --seed {config.option.seed}"
    )


@pytest.fixture(scope="module", autouse=True)
def frozen():
    """Many tests collect garbage: exclude the objects that exist already."""
    if hasattr(gc, "freeze"):
        gc.collect()
        gc.freeze()


@pytest.fixture(params=IMPLEMENTATIONS)
def implementation(request):
    return request.param


@pytest.fixture
def mended(request, implementation):
    """A fault of asyncio that aiofastlock does not have: the test must fail on asyncio."""
    if implementation == "asyncio":
        request.applymarker(pytest.mark.xfail(strict=True, reason="a fault of asyncio"))


def until_3_13(issue):
    """A fault of asyncio before Python 3.13: the test must fail on asyncio there."""

    @pytest.fixture(name=issue)
    def mark(request, implementation):
        if implementation == "asyncio" and sys.version_info < (3, 13):
            request.applymarker(pytest.mark.xfail(strict=True, reason=f"asyncio has {issue}"))

    return mark


gh_111693 = until_3_13("gh_111693")  # another CancelledError is raised, without the message
gh_112202 = until_3_13("gh_112202")  # a notification is lost when a task is cancelled


@pytest.fixture(params=OURS)
def our_name(request):
    return request.param


def of_all_three(primitive):
    @pytest.fixture(name=primitive)
    def get(implementation):
        return getattr(IMPLEMENTATIONS[implementation], primitive)

    return get


def of_ours(primitive):
    @pytest.fixture(name=f"Our{primitive}")
    def get(our_name):
        return getattr(OURS[our_name], primitive)

    return get


# A fixture for each class, such as Lock, and one without asyncio's, such as OurLock.
for primitive in CLASSES:
    globals()[f"{primitive}_fixture"] = of_all_three(primitive)
for primitive in (*CLASSES, *OWN):
    globals()[f"our_{primitive}_fixture"] = of_ours(primitive)


@pytest.fixture
def importable(request, monkeypatch):
    """pickle looks for the classes of both implementations in aiofastlock, which has only one."""
    which = "our_name" if "our_name" in request.fixturenames else "implementation"
    found = OURS.get(request.getfixturevalue(which))
    for primitive in (*CLASSES, *OWN) if found else ():
        monkeypatch.setattr(aiofastlock, primitive, getattr(found, primitive))


@pytest.fixture
def other_loop():
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))

needs_refcounts = pytest.mark.skipif(
    sys.implementation.name != "cpython", reason="needs objects to be freed when they are dropped"
)
needs_compiled = pytest.mark.skipif(
    "compiled" not in OURS, reason="the compiled implementation is off or missing"
)
