"""Names, signatures and messages are asyncio's; docstrings are the same in both implementations."""

import asyncio
import inspect

import pytest
from conftest import IMPLEMENTATIONS, OURS

compiled = pytest.mark.skipif("compiled" not in OURS, reason="needs the compiled implementation")

METHODS = {
    "Lock": ["__aenter__", "__aexit__", "__repr__", "acquire", "locked", "release"],
    "Event": ["__repr__", "clear", "is_set", "set", "wait"],
    "Condition": [
        "__aenter__", "__aexit__", "__repr__", "acquire", "locked", "notify", "notify_all",
        "release", "wait", "wait_for",
    ],
    "Semaphore": ["__aenter__", "__aexit__", "__repr__", "acquire", "locked", "release"],
    "BoundedSemaphore": ["__aenter__", "__aexit__", "__repr__", "acquire", "locked", "release"],
    "Barrier": ["__aenter__", "__aexit__", "__repr__", "abort", "reset", "wait"],
}  # fmt: skip
ATTRIBUTES = {
    "Lock": ["_locked", "_loop", "_waiters"],
    "Event": ["_loop", "_value"],
    "Condition": ["_loop"],
    "Semaphore": ["_loop", "_value", "_waiters"],
    "BoundedSemaphore": ["_bound_value", "_loop", "_value", "_waiters"],
    "Barrier": ["_count", "_loop", "_parties", "broken", "n_waiting", "parties"],
}
COROUTINES = {
    "Lock": ["acquire", "__aenter__", "__aexit__"],
    "Event": ["wait"],
    "Condition": ["acquire", "wait", "wait_for", "__aenter__", "__aexit__"],
    "Semaphore": ["acquire", "__aenter__", "__aexit__"],
    "BoundedSemaphore": ["acquire", "__aenter__", "__aexit__"],
    "Barrier": ["wait", "reset", "abort", "__aenter__", "__aexit__"],
}
ARGUMENTS = {"__aexit__": (None, None, None), "wait_for": (bool,)}


@pytest.fixture(params=METHODS)
def name(request):
    return request.param


def make(implementation, name):
    return getattr(implementation, name)(*([3] if name == "Barrier" else []))


def public_names(thing):
    return {name for name in dir(thing) if not name.startswith("_")}


def parameters(method):
    """Return the names, defaults and kinds of its parameters."""
    signature = inspect.signature(method)
    return [
        (parameter.name, parameter.default, parameter.kind)
        for parameter in signature.parameters.values()
    ]


def test_public_names_are_asyncios(our_name, name):
    assert public_names(make(OURS[our_name], name)) == public_names(make(asyncio, name))


def test_signatures_are_asyncios(our_name, name):
    ours, theirs = getattr(OURS[our_name], name), getattr(asyncio, name)
    assert parameters(ours) == parameters(theirs)
    our_object, their_object = make(OURS[our_name], name), make(asyncio, name)
    for method in METHODS[name]:
        our_method, their_method = getattr(our_object, method), getattr(their_object, method)
        assert parameters(our_method) == parameters(their_method), method


def test_private_attributes_that_other_packages_read(our_name, name):
    ours, theirs = make(OURS[our_name], name), make(asyncio, name)
    for attribute in ATTRIBUTES[name]:
        assert getattr(ours, attribute) == getattr(theirs, attribute), attribute
    assert repr(ours).rpartition("[")[2] == repr(theirs).rpartition("[")[2]


def test_get_loop_binds_to_the_running_loop(implementation, name):
    """Janus binds its locks early, by this."""
    thing = make(IMPLEMENTATIONS[implementation], name)

    async def get_loop():
        return thing._get_loop(), asyncio.get_running_loop()

    with asyncio.Runner() as runner, asyncio.Runner() as another:
        got, running = runner.run(get_loop())
        assert got is running is thing._loop
        with pytest.raises(RuntimeError, match="is bound to a different event loop"):
            another.run(get_loop())


def test_classes_name_the_module_that_users_import_them_from(our_name, name):
    ours = getattr(OURS[our_name], name)
    assert (ours.__module__, ours.__name__, ours.__qualname__) == ("aiofastlock", name, name)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("Lock", {"loop": 1}), ("Event", {"loop": 1}), ("Condition", {"loop": 1}),
        ("Semaphore", {"loop": 1}), ("BoundedSemaphore", {"loop": 1}), ("Barrier", {"loop": 1}),
        ("Lock", [1]), ("Event", [1]), ("Condition", [None, 2]), ("Semaphore", [1, 2]),
        ("BoundedSemaphore", [1, 2]), ("Barrier", [1, 2]), ("Barrier", []),
        ("Semaphore", [-1]), ("BoundedSemaphore", [-1]), ("Barrier", [0]),
        ("Semaphore", ["1"]), ("BoundedSemaphore", ["1"]), ("Barrier", ["1"]),
        ("Condition", [object()]),
    ],
)  # fmt: skip
def test_wrong_arguments_raise_asyncios_errors(our_name, name, arguments):
    texts = []
    for implementation in (OURS[our_name], asyncio):
        keywords = arguments if isinstance(arguments, dict) else {}
        with pytest.raises((TypeError, ValueError, AttributeError)) as caught:
            getattr(implementation, name)(*([] if keywords else arguments), **keywords)
        text = str(caught.value).replace(
            "parties must be > 0", "parties must be >= 1"
        )  # until 3.13
        texts.append((caught.type, text))
    assert texts[0] == texts[1]


@compiled
def test_docstrings_are_the_same_in_both_implementations(name):
    pure, fast = (getattr(OURS[which], name) for which in ("pure", "compiled"))
    assert fast.__doc__
    assert inspect.cleandoc(fast.__doc__) == inspect.cleandoc(pure.__doc__)
    for method in public_names(fast):
        doc = inspect.getdoc(getattr(fast, method))
        assert doc, method
        assert doc == inspect.getdoc(getattr(pure, method)), method


def test_the_awaitables_have_the_same_names(name):
    for method in COROUTINES[name]:
        names = set()
        for implementation in IMPLEMENTATIONS.values():
            call = getattr(make(implementation, name), method)
            coroutine = call(*ARGUMENTS.get(method, ()))
            coroutine.close()
            qualname = coroutine.__qualname__.replace("_ContextManagerMixin", "ContextManager")
            names.add((coroutine.__name__, qualname))
        assert len(names) == 1, names
        assert names.pop()[0] == method


def test_coroutine_functions(our_name):
    """The only difference that inspect shows: the compiled acquire() is no coroutine function."""
    lock = OURS[our_name].Lock()
    assert inspect.iscoroutinefunction(lock.acquire) is (our_name == "pure")
    assert inspect.iscoroutinefunction(asyncio.Lock().acquire)


@pytest.mark.parametrize("name", [name for name in METHODS if name != "Event"])
def test_aexit_is_a_coroutine_function(our_name, name):
    for implementation in (OURS[our_name], asyncio):
        of_class = getattr(implementation, name).__aexit__
        assert inspect.iscoroutinefunction(of_class)
        assert inspect.iscoroutinefunction(make(implementation, name).__aexit__)
        assert of_class.__name__ == "__aexit__"
        assert of_class.__doc__ is None


@pytest.mark.parametrize("name", [name for name in METHODS if name != "Event"])
def test_aexit_takes_what_asyncios_takes(our_name, name):
    for implementation in (OURS[our_name], asyncio):
        leave = make(implementation, name).__aexit__
        for arguments in ((), (None, None, None, None)):
            if name == "Barrier":  # any
                leave(*arguments).close()
            else:
                with pytest.raises(TypeError):
                    leave(*arguments)
        with pytest.raises(TypeError):
            leave(nothing=None)
        with pytest.raises(TypeError):
            getattr(implementation, name).__aexit__()
        if name != "Barrier":
            leave(exc_type=None, exc=None, tb=None).close()


@compiled
def test_aexit_of_another_class_is_refused():
    lock, semaphore = OURS["compiled"].Lock, OURS["compiled"].Semaphore
    with pytest.raises(TypeError, match=r"for 'aiofastlock.Lock' objects doesn't apply"):
        lock.__aexit__(semaphore(), None, None, None)


@pytest.mark.parametrize("kind", ["own", "subclass"])
async def test_what_cannot_be_awaited_says_so(our_name, name, kind):
    def refusal(implementation):
        cls = getattr(implementation, name)
        if kind == "subclass":
            cls = type("Mine", (cls,), {})
        with pytest.raises(TypeError) as refused:
            await_it(cls(*([3] if name == "Barrier" else []))).send(None)
        return str(refused.value)

    async def await_it(thing):
        await thing

    assert refusal(OURS[our_name]) == refusal(asyncio)


@compiled
@pytest.mark.parametrize("name", [name for name in METHODS if name != "Event"])
def test_the_repr_of_an_aexit(name):
    method = getattr(OURS["compiled"], name).__aexit__
    assert repr(method) == f"<method '__aexit__' of 'aiofastlock.{name}' objects>"
