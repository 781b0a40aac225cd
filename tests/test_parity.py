"""Names, signatures, docstrings and texts are asyncio's, and the same in both halves."""

import asyncio
import inspect

import pytest
from conftest import IMPLEMENTATIONS, OURS

compiled = pytest.mark.skipif("compiled" not in OURS, reason="the compiled half is not here")

METHODS = {"Lock": ["__aenter__", "__aexit__", "__repr__", "acquire", "locked", "release"]}
ATTRIBUTES = {"Lock": ["_locked", "_loop", "_waiters"]}


@pytest.fixture(params=METHODS)
def name(request):
    return request.param


def public_names(cls):
    return {name for name in dir(cls) if not name.startswith("_")}


def parameters(method):
    """What can be given. (The compiled __aexit__ takes it by position only.)"""
    signature = inspect.signature(method)
    return [(parameter.name, parameter.default) for parameter in signature.parameters.values()]


def test_public_names_are_asyncios(our_name, name):
    ours = getattr(OURS[our_name], name)
    assert public_names(ours) == public_names(getattr(asyncio, name))


def test_signatures_are_asyncios(our_name, name):
    ours, theirs = getattr(OURS[our_name], name), getattr(asyncio, name)
    assert parameters(ours) == parameters(theirs)
    for method in METHODS[name]:
        assert parameters(getattr(ours, method)) == parameters(getattr(theirs, method)), method
        assert parameters(getattr(ours(), method)) == parameters(getattr(theirs(), method)), method


def test_attributes_that_others_read_are_there(our_name, name):
    ours, theirs = getattr(OURS[our_name], name)(), getattr(asyncio, name)()
    for attribute in ATTRIBUTES[name]:
        assert getattr(ours, attribute) == getattr(theirs, attribute), attribute


def test_classes_are_where_users_import_them_from(our_name, name):
    ours = getattr(OURS[our_name], name)
    assert (ours.__module__, ours.__name__, ours.__qualname__) == ("aiofastlock", name, name)


@compiled
def test_docstrings_are_the_same_in_both_halves(name):
    pure, fast = (getattr(OURS[half], name) for half in ("pure", "compiled"))
    assert fast.__doc__
    assert inspect.cleandoc(fast.__doc__) == inspect.cleandoc(pure.__doc__)
    for method in public_names(fast):
        doc = inspect.getdoc(getattr(fast, method))
        assert doc, method
        assert doc == inspect.getdoc(getattr(pure, method)), method


async def test_the_awaitables_are_named_alike():
    names = {
        key: (coroutine.__name__, coroutine.__qualname__)
        for key, implementation in IMPLEMENTATIONS.items()
        if (coroutine := implementation.Lock().acquire()).close() is None
    }
    assert set(names.values()) == {("acquire", "Lock.acquire")}


def test_coroutine_functions(our_name):
    """The one thing that inspect tells apart: the compiled acquire() is no coroutine function."""
    lock = OURS[our_name].Lock()
    assert inspect.iscoroutinefunction(lock.acquire) is (our_name == "pure")
    assert inspect.iscoroutinefunction(asyncio.Lock().acquire)
