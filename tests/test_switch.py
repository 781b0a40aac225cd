"""AIOFASTLOCK_EXTENSIONS when the package is imported. Each case runs in another process."""

import os
import pickle
import subprocess
import sys
from importlib.machinery import PathFinder
from modulefinder import ModuleFinder
from pathlib import Path
from pkgutil import iter_modules

import pytest

import aiofastlock

# Without importing it, or its package.
FOLDER = Path(aiofastlock.__file__).with_name("_compiled")
COMPILED = PathFinder.find_spec("_lock", [str(FOLDER)]) is not None

needs_compiled = pytest.mark.skipif(not COMPILED, reason="not compiled in this installation")
needs_subinterpreters = pytest.mark.skipif(
    sys.implementation.name != "cpython", reason="this Python has no subinterpreters"
)

IMPORT = "import aiofastlock; print(aiofastlock.IMPLEMENTATION)"
BLOCK = "import sys; sys.modules['aiofastlock._compiled._lock'] = None\n"


def run(code: str, switch: str | None) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if k != "AIOFASTLOCK_EXTENSIONS"}
    if switch is not None:
        env["AIOFASTLOCK_EXTENSIONS"] = switch
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )


def output(code: str, switch: str | None) -> list[str]:
    done = run(code, switch)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def error(code: str, switch: str | None) -> str:
    """Return the last line of the traceback."""
    done = run(code, switch)
    assert (done.returncode, done.stdout) == (1, "")
    return done.stderr.splitlines()[-1]


@pytest.mark.parametrize("package", ["_compiled", "_pure"])
def test_tools_that_bundle_a_program_find_each_module(package: str) -> None:
    """They look for import statements, and take no module that has none."""
    folder = Path(aiofastlock.__file__).parent
    finder = ModuleFinder([str(folder.parent)])
    finder.import_hook("aiofastlock")
    modules = [module.name for module in iter_modules([str(folder / package)])]
    assert bool(modules) is (package == "_pure" or COMPILED)
    for name in modules:
        assert f"aiofastlock.{package}.{name}" in finder.modules


# Many tools set a variable to an empty value in order to unset it.
@pytest.mark.parametrize("switch", [None, ""])
def test_unset(switch: str | None) -> None:
    assert output(IMPORT, switch) == ["compiled" if COMPILED else "pure"]


@pytest.mark.parametrize("switch", [None, ""])
def test_unset_and_not_compiled(switch: str | None) -> None:
    assert output(BLOCK + IMPORT, switch) == ["pure"]


def test_pure() -> None:
    code = IMPORT + "; import sys; print('aiofastlock._compiled._lock' in sys.modules)"
    assert output(code, "0") == ["pure", "False"]


@needs_compiled
def test_compiled() -> None:
    assert output(IMPORT, "1") == ["compiled"]


def test_compiled_is_missing() -> None:
    message = error(BLOCK + IMPORT, "1")
    assert message.startswith(
        "ImportError: AIOFASTLOCK_EXTENSIONS=1 asks for the compiled implementation"
    )
    assert "import of aiofastlock._compiled._lock halted" in message  # why
    assert "C compiler" in message  # what to do
    assert "unset AIOFASTLOCK_EXTENSIONS" in message


@pytest.mark.parametrize("switch", ["2", "true", "no", " 1"])
def test_unknown_value(switch: str) -> None:
    assert (
        error(IMPORT, switch)
        == f"ValueError: AIOFASTLOCK_EXTENSIONS must be unset, 0 or 1, not {switch!r}"
    )


@pytest.mark.parametrize(
    "switch", ["0", pytest.param("1", marks=needs_compiled)], ids=["pure", "compiled"]
)
def test_module_is_the_public_package(switch: str) -> None:
    code = "from aiofastlock import Lock; print(Lock.__module__, Lock.__qualname__)"
    assert output(code, switch) == ["aiofastlock Lock"]


@needs_compiled
def test_a_python_without_subinterpreters() -> None:
    code = "import sys; sys.modules['_interpreters'] = sys.modules['_xxsubinterpreters'] = None\n"
    assert output(code + IMPORT, "1") == ["compiled"]


LOADED = "print(*sorted(name for name in sys.modules if name.startswith('aiofastlock._')))\n"


@pytest.mark.parametrize(
    ("switch", "package"), [("0", "_pure"), pytest.param("1", "_compiled", marks=needs_compiled)]
)
def test_a_class_is_imported_when_it_is_asked_for(switch: str, package: str) -> None:
    code = f"""
import sys, aiofastlock
{LOADED}
aiofastlock.Event
{LOADED}
from aiofastlock import *
{LOADED}
print(*sorted(set(aiofastlock.__all__) - set(globals())))
print(*sorted(set(aiofastlock.__all__) - set(dir(aiofastlock))))
"""
    at_first, then, at_last, *missing = map(str.split, output(code, switch))
    prefix = f"aiofastlock.{package}." + "_" * (package == "_compiled")
    others = {f"{prefix}{name}" for name in ("barrier", "condition", "keyed", "queue", "rwlock")}
    assert not {*others, f"{prefix}event"} & {*at_first}
    assert f"{prefix}event" in then
    assert not others & {*then}
    assert others <= {*at_last}
    assert missing == [[], []]


@pytest.mark.parametrize("switch", ["0", pytest.param("1", marks=needs_compiled)])
def test_a_class_is_patched_before_it_is_asked_for(switch: str) -> None:
    code = """
from unittest import mock
import aiofastlock
with mock.patch("aiofastlock.Queue") as patched:
    print(aiofastlock.Queue is patched)
print(aiofastlock.Queue.__name__)
"""
    assert output(code, switch) == ["True", "Queue"]


@pytest.mark.parametrize("switch", ["0", pytest.param("1", marks=needs_compiled)])
def test_many_threads_ask_for_classes_at_once(switch: str) -> None:
    code = """
import sys, threading, aiofastlock
sys.setswitchinterval(1e-5)
names = [name for name in aiofastlock.__all__ if name[0].isupper()] * 2
barrier = threading.Barrier(len(names))
found = []
def ask(name):
    barrier.wait()
    cls = getattr(aiofastlock, name)
    found.append((name, cls))
threads = [threading.Thread(target=ask, args=(name,)) for name in names]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(found) == len(names), len({*found}) == len(names) // 2)
print(*(name for name, cls in found if "__pyx_vtable__" in dir(cls)))
"""
    assert output(code, switch) == ["True True", ""]


@needs_compiled
@pytest.mark.parametrize(
    ("dumps", "loads"), [("0", "1"), ("1", "0")], ids=["pure to compiled", "compiled to pure"]
)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle_from_the_other_implementation(dumps: str, loads: str, protocol: int) -> None:
    dump = f"""
import asyncio, pickle, aiofastlock
locks = aiofastlock.Lock(), aiofastlock.Lock()
asyncio.run(locks[1].acquire())
locks[1].name = "mine"
print(pickle.dumps(locks, {protocol}).hex())
"""
    [pickled] = output(dump, dumps)
    load = f"""
import asyncio, pickle, aiofastlock
idle, held = pickle.loads(bytes.fromhex({pickled!r}))
print(aiofastlock.IMPLEMENTATION, type(idle) is type(held) is aiofastlock.Lock)
print(idle.locked(), held.locked(), held.name)
held.release()
print(held.locked(), asyncio.run(idle.acquire()))
"""
    implementation = "compiled" if loads == "1" else "pure"
    assert output(load, loads) == [f"{implementation} True", "False True mine", "False True"]


# The main interpreter imports aiofastlock first: of the interpreters that share the main GIL, only
# the first to import the compiled code can use it. (3.12.1 aborts at exit if another interpreter
# imports asyncio first.) Since 3.12 an isolated interpreter has its own GIL, and refuses the
# compiled code for that reason.
SUBINTERPRETER = """
try:
    import _interpreters as interpreters
    kinds = {{"config": "isolated"}}, {{"config": "legacy"}}
except ImportError:  # before 3.13
    import _xxsubinterpreters as interpreters
    kinds = {{"isolated": True}}, {{"isolated": False}}
{main}
for kind in kinds:
    interpreter = interpreters.create(**kind)
    interpreters.run_string(interpreter, {code!r})
    interpreters.destroy(interpreter)
"""

USE = """
import asyncio, os
try:
    import aiofastlock
except ImportError as error:
    line = f"{type(error).__name__}: {error}"
else:
    loop = asyncio.SelectorEventLoop()  # Windows' usual loop works in the main interpreter only
    assert loop.run_until_complete(aiofastlock.Lock().acquire())
    loop.close()
    line = aiofastlock.IMPLEMENTATION
os.write(1, (line + "\\n").encode())
"""


def in_subinterpreters(switch: str | None) -> list[str]:
    return output(SUBINTERPRETER.format(main=USE, code=USE), switch)


@needs_subinterpreters
@needs_compiled
def test_a_subinterpreter_uses_the_pure_implementation() -> None:
    assert in_subinterpreters(None) == ["compiled", "pure", "pure"]


@needs_subinterpreters
@needs_compiled
def test_a_subinterpreter_cannot_use_the_compiled_implementation() -> None:
    main, *others = in_subinterpreters("1")
    assert main == "compiled"
    assert len(others) == 2
    for line in others:
        assert line.startswith(
            "ImportError: AIOFASTLOCK_EXTENSIONS=1 asks for the compiled implementation"
        )
        assert "interpreter" in line.split(":")[2]  # why


@needs_subinterpreters
def test_a_subinterpreter_with_the_pure_implementation_requested() -> None:
    assert in_subinterpreters("0") == ["pure", "pure", "pure"]


LEGACY = """
import sys
if sys.version_info >= (3, 13):
    import _interpreters as interpreters
    other = interpreters.create("legacy")
else:
    import _xxsubinterpreters as interpreters
    other = interpreters.create(isolated=False)
interpreters.run_string(other, "import aiofastlock; print(aiofastlock.IMPLEMENTATION, flush=True)")
interpreters.destroy(other)
import asyncio
import aiofastlock
print(aiofastlock.IMPLEMENTATION)
async def main():
    lock = aiofastlock.Lock()
    async with lock:
        task = asyncio.create_task(lock.acquire())
        await asyncio.sleep(0)
    return await task
print(asyncio.run(main()))
"""


@needs_subinterpreters
@needs_compiled
def test_a_subinterpreter_that_imports_first_and_ends() -> None:
    assert output(LEGACY, None) == ["pure", "compiled", "True"]
