"""The schedules, the failed allocations and the lifetimes leave no method out.

Each of them has a list of operations, to which a new method must be added. These tests run the
operations on the pure-Python implementation. They fail, and name the list and the methods, unless
every public method and property that an exported class defines is called meanwhile.
"""

import contextlib
import inspect
import sys

import pytest
import schedules
import test_allocations
import test_lifetime
from conftest import needs_refcounts

import aiofastlock
from aiofastlock import _pure

EXPORTED = [
    getattr(_pure, name)
    for name in aiofastlock.__all__
    if isinstance(cls := getattr(aiofastlock, name), type) and not issubclass(cls, Exception)
]
SIDES = [type(_pure.RWLock().reader_lock), type(_pure.RWLock().writer_lock)]
SPECIAL = ("__init__", "__aenter__", "__aexit__")


def code_of(cls, name):
    """The code of a method or property; None for what is another object's.

    Condition.acquire(), for example, is the method of its lock.
    """
    found = inspect.getattr_static(cls, name)
    return getattr(getattr(found, "fget", found), "__code__", None)


class Recorder:
    """Notes which methods are called while it is entered, except by aiofastlock itself."""

    failed = False  # for the operations that take it for a Shortage

    def __init__(self):
        self.names = {
            (cls, code_of(cls, name)): f"{cls.__name__}.{name}"
            for cls in (*EXPORTED, *SIDES)
            for name in dir(cls)
            if (name in SPECIAL or not name.startswith("_")) and code_of(cls, name)
            if cls not in SIDES or name != "__init__"  # only an RWLock makes them
        }
        self.called = set()

    def __enter__(self):
        sys.setprofile(self.note)

    def __exit__(self, *_):
        sys.setprofile(None)

    def note(self, frame, event, _):
        if event == "call" and frame.f_code.co_argcount:
            cls = type(frame.f_locals.get(frame.f_code.co_varnames[0]))
            name = self.names.get((cls, frame.f_code))
            if name and not frame.f_back.f_globals["__name__"].startswith("aiofastlock"):
                self.called.add(name)

    def check(self, where):
        missing = sorted({*self.names.values()} - self.called)
        assert not missing, f"{where} calls {', '.join(missing)}"


@pytest.fixture
def recorder():
    return Recorder()


def test_the_schedules(recorder):
    with schedules.Machine() as machine:
        for scene in schedules.SCENES:
            for index in range(40):
                program = schedules.program_of(1, index, scene)
                with recorder:
                    machine.trace(_pure, *program)
    recorder.check("no program of tests/schedules.py (KINDS, QUERIES, SCENES)")


@needs_refcounts
async def test_the_allocations(recorder, monkeypatch):
    monkeypatch.setattr(sys, "unraisablehook", lambda report: None)
    kinds = test_allocations.makers(_pure)
    for (kind, _), function in test_allocations.OPERATIONS.items():
        with contextlib.suppress(
            AssertionError
        ):  # a wait() that is dropped in Python can't take its lock
            await function(kinds[kind], recorder)
    recorder.check("while allocations fail, no operation of tests/test_allocations.py")


@needs_refcounts
async def test_the_lifetimes(recorder):
    with recorder:
        operations = [*test_lifetime.operations("pure")]
    for _, subject, work in operations:
        with recorder:
            await work(subject)
    recorder.check("none of WORKS in tests/test_lifetime.py")
