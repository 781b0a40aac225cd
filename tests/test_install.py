"""install(), uninstall(), installed() and aiofastlock.auto. Each case runs in another process."""

import os
import subprocess
import sys

import pytest
from conftest import SWITCHES


@pytest.fixture(params=SWITCHES)
def run(request, tmp_path):
    """Return a function that runs code, which can import the `modules`: names with their source."""

    def run_code(code, *options, **modules):
        for name, source in modules.items():
            (tmp_path / f"{name}.py").write_text(source)
        done = subprocess.run(
            [sys.executable, *options, "-c", code],
            env={**os.environ, "AIOFASTLOCK_EXTENSIONS": SWITCHES[request.param]},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stderr

    return run_code


@pytest.fixture
def run_quietly(run):
    """Return such a function, which also checks that the code writes no warning to stderr."""

    def run_code(code, *options, **modules):
        assert run(BEGIN + code, *options, **modules) == ""

    return run_code


BEGIN = """
import asyncio, sys, types, unittest.mock
import aiofastlock
LOCKS = ["Barrier", "BoundedSemaphore", "Condition", "Event", "Lock", "Semaphore"]
QUEUES = ["LifoQueue", "PriorityQueue", "Queue"]
NAMES = LOCKS + QUEUES
PLACES = [(asyncio.locks, name) for name in LOCKS] + [(asyncio.queues, name) for name in QUEUES]
PLACES += [(asyncio, name) for name in NAMES]
ASYNCIOS = [getattr(asyncio, name) for name in NAMES]
OURS = [getattr(aiofastlock, name) for name in NAMES]
def what_is_there():
    found = [getattr(place, name) for place, name in PLACES]
    assert found[: len(NAMES)] == found[len(NAMES) :]
    return found[: len(NAMES)]
assert what_is_there() == ASYNCIOS
"""


def test_install_and_uninstall(run_quietly):
    run_quietly("""
replaced = aiofastlock.install()
assert what_is_there() == OURS
assert replaced == {
    f"{place.__name__}.{name}": cls for (place, name), cls in zip(PLACES, ASYNCIOS * 2)
}
replaced.clear()
assert len(aiofastlock.install()) == 18  # clear() did not change aiofastlock's own record
assert aiofastlock.uninstall() is None
assert what_is_there() == ASYNCIOS
aiofastlock.uninstall()
assert what_is_there() == ASYNCIOS
""")


def test_no_module_of_asyncio_is_left_out(run_quietly):
    run_quietly("""
import importlib, pkgutil
for module in pkgutil.iter_modules(asyncio.__path__):
    if not module.name.startswith(("windows", "unix", "__main__")):
        importlib.import_module(f"asyncio.{module.name}")
asyncio.queues.Turnstile = asyncio.Lock  # as a later Python might
aiofastlock.install()
asyncios = [module for name, module in sys.modules.items() if name.startswith("asyncio")]
assert len(asyncios) > 20
for module in asyncios:
    for value in vars(module).values():
        assert not any(value is cls for cls in ASYNCIOS), module
assert asyncio.queues.Turnstile is aiofastlock.Lock
aiofastlock.uninstall()
assert asyncio.queues.Turnstile is asyncio.Lock is ASYNCIOS[4]
""")


def test_nesting(run_quietly):
    run_quietly("""
with aiofastlock.installed() as nothing:
    assert nothing is None and what_is_there() == OURS
    with aiofastlock.installed():
        pass
    assert what_is_there() == OURS
assert what_is_there() == ASYNCIOS

first, second = aiofastlock.installed(), aiofastlock.installed()
first.__enter__()
second.__enter__()
first.__exit__(None, None, None)  # as may happen with two threads
assert what_is_there() == OURS
second.__exit__(None, None, None)
assert what_is_there() == ASYNCIOS

aiofastlock.install()
with aiofastlock.installed():
    pass
assert what_is_there() == OURS
aiofastlock.uninstall()

with aiofastlock.installed():
    aiofastlock.install()
assert what_is_there() == OURS
with aiofastlock.installed():
    aiofastlock.uninstall()
    assert what_is_there() == ASYNCIOS
assert what_is_there() == ASYNCIOS

try:
    with aiofastlock.installed():
        raise ZeroDivisionError
except ZeroDivisionError:
    assert what_is_there() == ASYNCIOS
""")


def test_threads(run_quietly):
    run_quietly("""
import threading
def enter_and_leave():
    for _ in range(50):
        with aiofastlock.installed():
            assert asyncio.Lock is asyncio.locks.Lock is aiofastlock.Lock
    ended.append(True)
ended = []
sys.setswitchinterval(1e-5)
threads = [threading.Thread(target=enter_and_leave) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert len(ended) == 4
assert what_is_there() == ASYNCIOS
""")


def test_attributes_that_were_replaced_before(run_quietly):
    run_quietly("""
asyncio.Lock = theirs = unittest.mock.Mock()
asyncio.Event = None
assert aiofastlock.install()["asyncio.Lock"] is theirs
assert what_is_there() == OURS
assert asyncio.events.Handle is not None and asyncio.locks.exceptions is not None
aiofastlock.uninstall()
assert asyncio.Lock is theirs and asyncio.Event is None
assert asyncio.locks.Lock is ASYNCIOS[4] and asyncio.locks.Event is ASYNCIOS[3]
""")


def test_attributes_that_are_replaced_afterwards(run_quietly):
    run_quietly("""
aiofastlock.install()
asyncio.Lock = theirs = unittest.mock.Mock()
aiofastlock.uninstall()
assert asyncio.Lock is theirs
asyncio.Lock = asyncio.locks.Lock
assert what_is_there() == ASYNCIOS

aiofastlock.install()
asyncio.Lock = theirs
assert aiofastlock.install()["asyncio.Lock"] is theirs
assert what_is_there() == OURS
aiofastlock.uninstall()
assert asyncio.Lock is theirs
""")


def test_attributes_that_are_patched_for_a_while(run_quietly):
    run_quietly("""
aiofastlock.install()
with unittest.mock.patch("asyncio.Lock"):
    aiofastlock.uninstall()
assert asyncio.Lock is aiofastlock.Lock  # the patch has restored it
aiofastlock.uninstall()
assert what_is_there() == ASYNCIOS
""")


def test_isinstance(run_quietly):
    run_quietly("""
before = asyncio.Lock()
with aiofastlock.installed():
    assert isinstance(asyncio.Lock(), asyncio.Lock) and isinstance(aiofastlock.Lock(), asyncio.Lock)
    assert not isinstance(before, asyncio.Lock)
assert isinstance(before, asyncio.Lock) and isinstance(aiofastlock.Lock(), asyncio.Lock)
""")


def test_primitives_that_asyncio_creates(run_quietly):
    run_quietly("""
aiofastlock.install()
async def use():
    queue = asyncio.Queue()
    assert type(queue._finished) is aiofastlock.Event
    queue.put_nowait(1)
    joined = asyncio.create_task(queue.join())
    await asyncio.sleep(0)
    assert not joined.done()
    queue.task_done()
    await joined
asyncio.run(use())
""")


def test_subclasses_and_objects_that_are_older(run_quietly):
    run_quietly(
        """
import before
with unittest.mock.patch("warnings.warn"):
    aiofastlock.install()
async def use():
    condition = before.Condition()
    assert type(condition._lock) is aiofastlock.Lock
    barrier = before.Barrier(3)
    assert type(barrier._cond) is aiofastlock.Condition
    indices = await asyncio.gather(*[barrier.wait() for _ in range(6)])
    assert sorted(indices) == [0, 0, 1, 1, 2, 2]
    for condition in condition, asyncio.Condition(before.lock), before.condition:
        async with condition:
            waiting = asyncio.create_task(wait(condition))
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        async with condition:
            condition.notify()
        assert await waiting
    async with before.BoundedSemaphore(1) as nothing:
        pass
async def wait(condition):
    async with condition:
        return await condition.wait()
asyncio.run(use())
""",
        before="""
import asyncio
class Condition(asyncio.Condition): pass
class Barrier(asyncio.Barrier): pass
class BoundedSemaphore(asyncio.BoundedSemaphore): pass
lock = asyncio.Lock()
condition = asyncio.Condition()
""",
    )


HOLDS = "from asyncio import Lock as Turnstile"


def warnings_in(stderr):
    """Return the lines without the source code, which Python 3.13 also shows for `-c`."""
    return [line for line in stderr.splitlines() if "RuntimeWarning" in line]


def test_modules_that_hold_classes_are_named_once(run):
    stderr = run(
        """
import aiofastlock
import holds, derives, late, imports, asyncio.queues
aiofastlock.install()
aiofastlock.uninstall()
aiofastlock.install()
with aiofastlock.installed(): pass
""",
        holds=HOLDS,
        derives="import asyncio\nclass Patient(asyncio.Semaphore): pass",
        late="async def wait():\n from asyncio import Lock",
        imports="import asyncio, aiofastlock\nfrom aiofastlock import Lock\nlock = asyncio.Lock()",
    )
    assert warnings_in(stderr) == [
        "<string>:4: RuntimeWarning: aiofastlock is installed too late for modules that already "
        "hold a class which it replaces, or a subclass: derives, holds"
    ]


def test_modules_that_come_later_are_named_later(run):
    stderr = run(
        """
import aiofastlock, first
aiofastlock.install()
import between
aiofastlock.uninstall()
import second, third
with aiofastlock.installed(): pass
""",
        first=HOLDS,
        between=HOLDS,
        second=HOLDS,
        third=HOLDS,
    )
    lines = warnings_in(stderr)
    assert [line.rpartition(": ")[2] for line in lines] == ["first", "second, third"]
    assert [line.split(": ")[0] for line in lines] == ["<string>:3", "<string>:7"]


def test_a_warning_that_is_an_error(run):
    run(
        BEGIN
        + """
for enter in aiofastlock.install, aiofastlock.installed().__enter__:
    __import__("holds_too" if "holds" in sys.modules else "holds")
    try:
        enter()
    except RuntimeWarning:
        assert what_is_there() == ASYNCIOS
    else:
        raise AssertionError
with aiofastlock.installed():
    assert what_is_there() == OURS
assert what_is_there() == ASYNCIOS
""",
        "-W",
        "error",
        holds=HOLDS,
        holds_too=HOLDS,
    )


def test_the_search_in_modules_runs_no_foreign_code(run_quietly):
    run_quietly(
        """
import importlib.util
spec = importlib.util.find_spec("lazy")
spec.loader = importlib.util.LazyLoader(spec.loader)
sys.modules["lazy"] = lazy = importlib.util.module_from_spec(spec)
spec.loader.exec_module(lazy)

def fail(*arguments):
    raise AssertionError(arguments)
class Proxy:
    __class__ = property(fail)
    __getattr__ = __eq__ = fail
    __hash__ = None
class Meta(type):
    __instancecheck__ = __subclasscheck__ = __eq__ = fail
    __hash__ = None
class Module(types.ModuleType):
    __getattribute__ = fail
odd = types.ModuleType("odd")
odd.__getattr__ = odd.__dir__ = fail
odd.proxy, odd.meta = Proxy(), Meta("", (), {})
sys.modules.update(odd=odd, none=None, proxy=Proxy(), module=Module("module"))
sys.modules[7] = types.SimpleNamespace(Lock=asyncio.Lock)
aiofastlock.install()
assert what_is_there() == OURS
del sys.modules[7]
assert type(lazy) is not types.ModuleType  # it is not loaded yet
assert lazy.Turnstile is aiofastlock.Lock
""",
        lazy=HOLDS,
    )


def test_auto(run_quietly):
    run_quietly("import aiofastlock.auto; assert what_is_there() == OURS")


def test_auto_as_a_plugin_of_pytest(run_quietly):
    test = """
import asyncio, aiofastlock, turnstile
def test_it():
    assert asyncio.Lock is turnstile.Turnstile is aiofastlock.Lock
"""
    run_quietly(
        """
import os, subprocess
pytest = [sys.executable, "-W", "error", "-m", "pytest", "test_it.py"]
alone = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # so that it starts quickly
for arguments, code in (["-p", "aiofastlock.auto"], 0), ([], 1):
    done = subprocess.run(pytest + arguments, env=alone, capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr
""",
        test_it=test,
        turnstile=HOLDS,
    )


def test_the_table_still_compares_with_asyncios_classes(run_quietly):
    run_quietly("""
import runpy, aiofastlock.auto
from aiofastlock import _benchmark
_benchmark.print_environment = tables = lambda: None
_benchmark.print_table = lambda: seen.append(what_is_there())
seen = []
runpy.run_module("aiofastlock", run_name="__main__", alter_sys=True)
assert seen == [ASYNCIOS]
""")
