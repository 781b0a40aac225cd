"""asyncio patched in any way at any time: the patch is called as with asyncio's own locks."""

import asyncio
import functools
import subprocess
import sys
import threading
import types
import weakref

import pytest
from conftest import IMPLEMENTATIONS, needs_compiled

import aiofastlock
from aiofastlock import _internals

BaseEventLoop, Handle = asyncio.BaseEventLoop, asyncio.Handle
FUNCTIONS = [(BaseEventLoop, name) for name in _internals.LOOP]
FUNCTIONS += [(Handle, name) for name in _internals.HANDLE]


def test_the_functions_are_what_they_are_expected_to_be():
    """A new Python that changes one fails here: compare the function with _loop.h."""
    for owner, name in FUNCTIONS:
        module = sys.modules[owner.__module__]
        names = (_internals.HANDLE if owner is Handle else _internals.LOOP)[name]
        found = _internals.original(module, owner.__name__, owner, name, names)
        assert found is vars(owner)[name], sorted(vars(owner)[name].__code__.co_names)


# ---- Ways to patch a function of a class ----


def replaced(function, seen):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        seen.append(function.__name__)
        return function(*args, **kwargs)

    return wrapper


def on_asyncios_globals(function, seen):
    """As a tool does that rewrites functions: the globals and the name stay."""
    wrapper = replaced(function, seen)
    namespace = {"wrapper": wrapper}
    exec("def made(*args, **kwargs): return wrapper(*args, **kwargs)", namespace)
    made = types.FunctionType(
        namespace["made"].__code__.replace(
            co_name=function.__name__, co_qualname=function.__qualname__
        ),
        {**function.__globals__, "wrapper": wrapper},
        function.__name__,
    )
    return functools.wraps(function)(made)


def by_wrapt(function, seen):
    wrapt = pytest.importorskip("wrapt")

    def wrapper(wrapped, instance, args, kwargs):
        seen.append(function.__name__)
        return wrapped(*args, **kwargs)

    return wrapt.FunctionWrapper(function, wrapper)


class NewCode:
    """Replaces the code of the function itself: the class does not change."""

    def __init__(self, function, seen):
        self.function, self.code = function, function.__code__
        copy = types.FunctionType(
            self.code,
            function.__globals__,
            function.__name__,
            function.__defaults__,
            function.__closure__,
        )
        copy.__kwdefaults__ = function.__kwdefaults__
        wrapper = replaced(copy, seen)
        # A constant that the code calls: no global name, and no other class or module.
        source = compile(
            "def made(*args, **kwargs): return 'call'(*args, **kwargs)", "made", "exec"
        )
        (made,) = (c for c in source.co_consts if isinstance(c, types.CodeType))
        constants = tuple(wrapper if c == "call" else c for c in made.co_consts)
        function.__code__ = made.replace(
            co_consts=constants, co_name=self.code.co_name, co_qualname=self.code.co_qualname
        )

    def undo(self):
        self.function.__code__ = self.code


async def wake_up(module):
    """A task waits for an event, to get and to put, and is woken."""
    event, queue, full = module.Event(), module.Queue(), module.LifoQueue(1)
    full.put_nowait(1)
    for waiting, wake in [
        (event.wait(), event.set),
        (queue.get(), functools.partial(queue.put_nowait, 1)),
        (full.put(2), full.get_nowait),
    ]:
        task = asyncio.ensure_future(waiting)
        await asyncio.sleep(0)
        wake()
        await task


def calls_with(module, patch, seen):
    """How often the patched function is called by a wake-up, once asyncio was patched."""

    async def main():
        asyncio.get_running_loop().another = None
        await wake_up(module)  # unpatched, so that what is remembered of asyncio is remembered
        undo = patch()
        seen.clear()
        await wake_up(module)
        found = list(seen)
        undo()
        return found

    with asyncio.Runner(debug=False) as runner:
        return runner.run(main())


@pytest.mark.filterwarnings("ignore::SyntaxWarning")
@pytest.mark.parametrize("owner_and_name", FUNCTIONS, ids=lambda pair: pair[1])
@pytest.mark.parametrize("way", [replaced, on_asyncios_globals, by_wrapt, NewCode])
def test_a_patch_of_a_function_is_called(our_name, owner_and_name, way):
    owner, name = owner_and_name
    found = []
    for module in (asyncio, IMPLEMENTATIONS[our_name]):
        seen = []

        def patch(seen=seen):
            original = vars(owner)[name]
            if way is NewCode:
                return way(original, seen).undo
            setattr(owner, name, way(original, seen))
            return lambda: setattr(owner, name, original)

        found.append(calls_with(module, patch, seen))
    assert found[0] == found[1]
    assert found[0]


@pytest.mark.parametrize(
    "name", ["call_soon", "_call_soon", "_check_closed", "_run_once", "create_future", "get_debug"]
)
def test_a_patch_of_one_loop_is_called(our_name, name):
    found = []
    for module in (asyncio, IMPLEMENTATIONS[our_name]):
        seen = []

        def patch(seen=seen):
            loop = asyncio.get_running_loop()
            del loop.another  # so that the loop has as many attributes as before
            setattr(loop, name, replaced(getattr(loop, name), seen))
            return lambda: delattr(loop, name)

        found.append(calls_with(module, patch, seen))
    assert found[0] == found[1]
    assert found[0]


@pytest.mark.parametrize(
    ("module_name", "name"),
    [
        ("asyncio.events", "Handle"),
        ("asyncio.events", "_get_running_loop"),
        ("asyncio.futures", "Future"),
        ("asyncio.base_events", "events"),
        ("asyncio.base_events", "futures"),
    ],
)
def test_a_name_of_asyncios_modules_is_looked_up_late(our_name, module_name, name):
    found = []
    for implementation in (asyncio, IMPLEMENTATIONS[our_name]):
        seen = []

        def patch(seen=seen):
            module = sys.modules[module_name]
            original = getattr(module, name)
            if isinstance(original, type):
                patched = type(original.__name__, (original,), {})
                patched.__init__ = replaced(original.__init__, seen)
            elif callable(original):
                patched = replaced(original, seen)
            else:
                patched = types.SimpleNamespace(**vars(original))
                patched.Handle = replaced(vars(original).get("Handle", Handle), seen)
                patched.Future = replaced(vars(original).get("Future", asyncio.Future), seen)
            setattr(module, name, patched)
            return lambda: setattr(module, name, original)

        found.append(calls_with(implementation, patch, seen))
    assert found[0] == found[1]
    assert found[0]


def test_a_name_of_asyncios_modules_is_gone(our_name, monkeypatch):
    errors = []
    for module in (asyncio, IMPLEMENTATIONS[our_name]):
        lock = module.Lock()
        asyncio.run(lock.acquire())
        waiter = lock.acquire()
        with monkeypatch.context() as patch:
            patch.delattr(asyncio.events, "_get_running_loop")
            with pytest.raises(AttributeError) as error:
                waiter.send(None)
        errors.append(str(error.value))
        assert not lock._waiters
    assert errors[0] == errors[1]


def test_a_loop_whose_call_soon_is_asyncios_threadsafe_one(our_name):
    """An event that another thread sets wakes the loop, which sleeps in its selector."""

    class Loop(asyncio.SelectorEventLoop):
        call_soon = asyncio.SelectorEventLoop.call_soon_threadsafe

    async def main():
        event = IMPLEMENTATIONS[our_name].Event()
        waits = threading.Event()
        setter = threading.Thread(target=lambda: (waits.wait(), event.set()))
        setter.start()
        asyncio.get_running_loop().call_later(0.05, waits.set)
        assert await event.wait() is True
        setter.join()

    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(main())


# ---- What lies in loop._ready ----


async def handle_of_a_wake_up(module):
    if not hasattr(asyncio.get_running_loop(), "_ready"):
        pytest.skip("uvloop's handles cannot be seen")
    if sys.implementation.name != "cpython":
        pytest.skip("PyPy's handles call other methods, and are freed later")
    event = module.Event()
    task = asyncio.ensure_future(event.wait())
    await asyncio.sleep(0)
    event.set()
    return asyncio.get_running_loop()._ready[-1], task


async def test_a_handle_is_one_of_asyncios(our_name):
    handle, task = await handle_of_a_wake_up(IMPLEMENTATIONS[our_name])
    assert isinstance(handle, Handle)
    assert handle._callback.__self__ is task
    assert handle._args == (handle._args[0],)
    assert handle._loop is asyncio.get_running_loop()
    if sys.version_info >= (3, 12):
        assert handle.get_context() is handle._context
    assert handle.cancelled() is handle._cancelled is False
    assert handle._source_traceback is handle._repr is None
    assert weakref.ref(handle)() is handle
    assert repr(handle).startswith("<Handle Task.task_wakeup(")
    await task


async def test_a_handle_that_is_cancelled_does_not_wake(our_name):
    handle, task = await handle_of_a_wake_up(IMPLEMENTATIONS[our_name])
    callback, args = handle._callback, handle._args
    gone = weakref.ref(handle)
    handle.cancel()
    found = handle.cancelled(), handle._callback, handle._args, repr(handle)
    del handle
    await asyncio.sleep(0)
    found += task.done(), gone()
    asyncio.get_running_loop().call_soon(callback, *args)  # or the task would never end
    await task
    assert found == (True, None, None, "<Handle cancelled>", False, None)


async def test_a_handle_that_is_moved_and_changed(our_name):
    """asynkit moves handles in loop._ready; a debugger may put its own callback into one."""
    handle, task = await handle_of_a_wake_up(IMPLEMENTATIONS[our_name])
    ready = asyncio.get_running_loop()._ready
    ready.remove(handle)
    order = []
    task.add_done_callback(lambda _task: order.append("done"))
    callback = handle._callback
    handle._callback = lambda *args: (order.append(len(args)), callback(args[0]))
    handle._args = (*handle._args, "another")
    ready.appendleft(handle)
    await task
    assert order == [2, "done"]


async def test_a_handle_runs_by_handles_own_method_if_that_is_patched_late(our_name, monkeypatch):
    seen = []
    _, task = await handle_of_a_wake_up(IMPLEMENTATIONS[our_name])
    with monkeypatch.context() as patch:
        patch.setattr(Handle, "_run", replaced(Handle._run, seen))
        await task
    assert seen


# ---- Importing while asyncio is mocked ----

IMPORTED_MOCKED = """if True:
    import asyncio, importlib.util, sys, types, unittest.mock
    try:
        import _asyncio
    except ImportError:
        _asyncio = types.SimpleNamespace()  # on PyPy
    real = getattr(asyncio, "{name}")
    ways = dict(
        mock=lambda: unittest.mock.MagicMock(wraps=real),
        other=lambda: dict(Future=asyncio.futures._PyFuture).get(
            "{name}", type("Other", (), dict(__slots__=("__weakref__",)))
        ),
        function=lambda: lambda *args, **kwargs: real(*args, **kwargs),
        none=lambda: None,
    )
    {where}.{name} = ways["{way}"]()
    import aiofastlock
    {where}.{name} = real
    async def main():
        lock = aiofastlock.Lock()
        await lock.acquire()
        task = asyncio.create_task(lock.acquire())
        await asyncio.sleep(0)
        lock.release()
        assert await task is True
    asyncio.run(main())
"""


PATCHED_DEQUE = """
import asyncio, collections

class Deque(collections.deque):
    def append(self, item):
        super().append(item)

collections.deque = Deque
import aiofastlock

async def main():
    queue = aiofastlock.Queue()
    queue.put_nowait(1)
    assert await queue.get() == 1

asyncio.run(main())
"""


def test_importing_while_collections_is_patched():
    done = subprocess.run(
        [sys.executable, "-c", PATCHED_DEQUE], capture_output=True, check=False, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("way", ["mock", "other", "function", "none"])
@pytest.mark.parametrize(
    ("where", "name"),
    [
        ("_asyncio", "Future"),
        ("asyncio", "Future"),
        ("asyncio.futures", "Future"),
        ("asyncio", "Handle"),
        ("asyncio.events", "Handle"),
        ("asyncio", "events"),
        ("asyncio", "futures"),
        ("asyncio", "base_events"),
        ("asyncio", "InvalidStateError"),
        ("asyncio", "Lock"),
        ("asyncio.locks", "Lock"),
    ],
)
def test_importing_while_asyncio_is_mocked(where, name, way):
    code = IMPORTED_MOCKED.format(where=where, name=name, way=way)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=False, text=True, timeout=250
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_compiled
def test_the_c_way_is_taken_again_when_a_patch_is_gone(monkeypatch):
    async def main():
        found = []
        for patched in (False, True, False):
            with monkeypatch.context() as patch:
                if patched:
                    patch.setattr(asyncio.futures, "Future", type("F", (asyncio.Future,), {}))
                    patch.setattr(BaseEventLoop, "call_soon", replaced(BaseEventLoop.call_soon, []))
                handle, task = await handle_of_a_wake_up(aiofastlock)
                found.append(type(handle) is Handle)
                await task
        return found

    with asyncio.Runner(debug=False) as runner:
        assert runner.run(main()) == [False, True, False]
