"""What can be asked about a primitive: each fact is a function of a Case.

facts_of() asks all of them and returns the answers, as text in which modules and addresses are the
same for every implementation. An exception is an answer, too. As a command, this prints what
differs from asyncio without being in the list of tests/test_parity.py, and what is in the list
without differing:

    python tests/parity.py [pure|compiled]...
"""

import abc
import asyncio
import collections.abc
import contextlib
import contextvars
import copy
import dataclasses
import functools
import gc
import inspect
import io
import itertools
import json
import operator
import pickle
import pprint
import re
import selectors
import sys
import traceback
import types
import typing
import warnings
import weakref
from typing import Generic, NamedTuple, TypeVar
from unittest import mock

from conftest import IMPLEMENTATIONS, PRIMITIVES, QUEUES

import aiofastlock

# Arguments of the constructors and of the methods that take any.
CONSTRUCTED = {"Semaphore": [1], "BoundedSemaphore": [1], "Barrier": [2]}
CALLED = {
    "__aexit__": (None, None, None),
    "wait_for": (lambda: True,),
    "put": (1,),
    "put_nowait": (1,),
}
# asyncio's queues of Python 3.11 and 3.12 have no shutdown(). The tests compare what they do.
NAMES = (*PRIMITIVES, *(QUEUES if sys.version_info >= (3, 13) else ()))
T = TypeVar("T")


class Case:
    """What a fact is asked about: a class, a method of it, and how that is reached."""

    def __init__(self, implementation, name, owner="cls", attribute=None, state=None):
        self.implementation, self.name = implementation, name
        self.owner, self.attribute, self.state = owner, attribute, state
        self.module = IMPLEMENTATIONS[implementation]
        self.cls = getattr(self.module, name)
        self.theirs = getattr(asyncio, name)
        self.coroutines = []  # to close in the end
        self.nameless = set()  # types whose names in messages are no difference of their own

    def new(self, cls=None):
        cls = cls or (mine(self) if self.owner == "sub" else self.cls)
        return cls(*CONSTRUCTED.get(self.name, []))

    @functools.cached_property
    def self(self):
        return self.new()

    @property
    def of(self):
        return self.cls if self.owner == "cls" else self.self

    @property
    def value(self):
        found = getattr(self.of, self.attribute)
        if is_method(self.name, self.attribute):
            self.nameless |= {type(found), type(self.static)}
        return found

    @property
    def static(self):
        return inspect.getattr_static(self.of, self.attribute)


class Each(dict):
    """The answers of a fact that asks several things, or functions that return them."""

    def answered(self):
        return Each(
            {
                key: result(value) if isinstance(value, types.FunctionType) else value
                for key, value in self.items()
            }
        )


class Key(NamedTuple):
    primitive: str
    subject: str  # "cls", "self.acquire", or "self.acquire() suspended"
    fact: str


FACTS = collections.defaultdict(dict)


def of(*subjects, when=True):
    def register(fact):
        for subject in subjects if when else ():
            FACTS[subject][fact.__name__] = fact
        return fact

    return register


FREES_AT_ONCE = sys.implementation.name == "cpython"


# ---- Answers as text ----

OWN_MODULES = r"asyncio\.(?:locks|mixins|queues)|aiofastlock(?:\._pure\.\w+|\._\w+)?"
BASES = r"_?(?:ContextManager(?:Mixin)?|LoopBoundMixin|ParkingLot)"


@functools.cache
def plain(text):
    """Return a text without addresses, lines, and the names of modules and of base classes."""
    text = re.sub(r"\b(running|created) at \S+:\d+", r"\1 at", text)
    text = re.sub(rf"\b{BASES}\.(?=\w)", "Base.", text)
    text = re.sub(r"\b0x[0-9a-fA-F]+", "0x", text)
    text = re.sub(rf"\b(?:{OWN_MODULES})\.(?=[A-Z_])", "", text)
    return re.sub(rf"(?<![\w.])(?:{OWN_MODULES})(?![\w.])", "MODULE", text)


@functools.cache
def naming(cls):
    """Return what matches a type's name in messages, such as "'coroutine' object ..."."""
    names = "|".join(map(re.escape, {plain(f"{cls.__module__}.{cls.__qualname__}"), cls.__name__}))
    return re.compile(rf"'(?:{names})'|\b(?:{names})(?=\.\w+\(\))")


def without_names(case, text):
    for cls in case.nameless:
        text = naming(cls).sub("'TYPE'", text)
    return text


def name_of(cls):
    return plain(f"{cls.__module__}.{cls.__qualname__}").removeprefix("builtins.")


def shown(value):
    """Return the text of an answer."""
    if isinstance(value, str):
        return repr(plain(value))
    if value is None or value is NotImplemented or isinstance(value, int | float):
        return repr(value)
    if isinstance(value, type):
        return f"class {name_of(value)}"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(shown, value))}]"
    if isinstance(value, set | frozenset):
        return f"{{{', '.join(sorted(map(shown, value)))}}}"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {shown(item)}' for key, item in value.items())}}}"
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {plain(str(value))}"
    return f"a {name_of(type(value))}"


def without_a_loop(fact):
    fact.without_a_loop = True
    return fact


class Selector(selectors.DefaultSelector):
    """Cancels a fact that would wait: nothing comes from outside, so it would wait forever."""

    asking = None

    def select(self, timeout=None):
        if timeout != 0 and self.asking is not None:
            self.asking.cancel("it waits forever")
        return super().select(0)


async def answer(fact, case):
    """Return what a fact returns or raises."""
    try:
        found = fact(case)
        return answered(await found if inspect.iscoroutine(found) else found)
    except Exception as error:
        return error
    except asyncio.CancelledError as error:
        asyncio.current_task().uncancel()
        return error
    finally:
        for coroutine in case.coroutines:
            with contextlib.suppress(Exception):
                coroutine.close()


def answered(found):
    return found.answered() if isinstance(found, Each) else found


# ---- The walk ----

# What copying uses, of which the copies tell, a cache of copyreg's, and where the source is.
IMPLIED = {
    "__firstlineno__", "__getstate__", "__reduce__", "__reduce_ex__", "__slotnames__",
    "__static_attributes__", "__annotations__",
}  # fmt: skip


def attributes_of(name, owner):
    """Names that asyncio's class or instance has."""
    case = Case("asyncio", name, owner)
    return sorted({*dir(case.of)} - IMPLIED)


def is_method(name, attribute):
    """Whether asyncio's class has it as a function."""
    for cls in getattr(asyncio, name).__mro__[:-1]:
        if attribute in vars(cls):
            return isinstance(vars(cls)[attribute], types.FunctionType)
    return False


def is_own(name, attribute):
    """Whether asyncio's class or instance has it, and not every object."""
    return is_method(name, attribute) or attribute not in dir(type("Empty", (), {}))


def coroutine_methods(name):
    cls = getattr(asyncio, name)
    found = [method for method in dir(cls) if inspect.iscoroutinefunction(getattr(cls, method))]
    public = [method for method in found if method[:2] == "__" or method[0] != "_"]
    return public + ["acquire"] * (name == "Condition")  # an attribute of the instance


WAITING = ("acquire", "wait", "wait_for", "__aenter__", "put", "get", "join")


def cases(implementation, name):
    """Yield the cases of a primitive, with their subjects and the kinds of facts to ask."""
    yield Case(implementation, name, "cls"), "cls", ["class"]
    yield Case(implementation, name, "self"), "self", ["instance", "no subclass"]
    yield Case(implementation, name, "sub"), "sub", ["instance"]
    for owner in ("cls", "self"):
        for attribute in attributes_of(name, owner):
            case = Case(implementation, name, owner, attribute)
            kinds = ["presence"]
            if hasattr(case.of, attribute):
                kinds += ["attribute"]
                if is_method(name, attribute):
                    kinds += ["method", f"method of {owner}"]
                elif owner == "self" and is_own(name, attribute):
                    kinds += ["data"]
            yield case, f"{owner}.{attribute}", kinds
    for method in coroutine_methods(name):
        for state in ("created", "suspended", "closed", "finished"):
            if state != "suspended" or method in WAITING:
                case = Case(implementation, name, "self", method, state)
                yield case, f"self.{method}() {state}", ["coroutine"]
        case = Case(implementation, name, "self", method)
        yield case, f"self.{method}()", ["call", *(["wait"] if method in WAITING else [])]
        if method in WAITING:
            case = Case(implementation, name, "sub", method, "suspended")
            yield case, f"sub.{method}() suspended", ["coroutine"]
    yield Case(implementation, name, "self"), "handle", ["handle"]


def importable(implementation):
    """pickle looks for the classes of both implementations in aiofastlock, which has only one."""
    module = aiofastlock if implementation != "asyncio" else asyncio
    found = {name: getattr(IMPLEMENTATIONS[implementation], name) for name in NAMES}
    return mock.patch.multiple(module, **found)


def questions(implementation, name):
    for case, subject, kinds in cases(implementation, name):
        for kind in kinds:
            for title, fact in FACTS[kind].items():
                fresh = Case(implementation, name, case.owner, case.attribute, case.state)
                yield subject, title, fact, fresh


@functools.cache
def facts_of(implementation, name):
    """Return the answer to every fact about a primitive, as text, by its Key."""
    found = {}
    selector = Selector()

    def note(subject, title, case, value):
        for key, part in (value if isinstance(value, Each) else {None: value}).items():
            full = title if key is None else f"{title}.{key}"
            found[Key(name, subject, full)] = without_names(case, shown(part))

    async def ask():
        selector.asking = asyncio.current_task()
        for subject, title, fact, case in questions(implementation, name):
            if not hasattr(fact, "without_a_loop"):
                note(subject, title, case, await answer(fact, case))
        selector.asking = None

    with warnings.catch_warnings(), importable(implementation):
        warnings.simplefilter("ignore")
        for subject, title, fact, case in questions(implementation, name):
            if hasattr(fact, "without_a_loop"):
                asking = answer(fact, case)
                note(subject, title, case, step(asking.send, None).value)
        with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
            runner.run(ask())
    return found


def differences(implementation, name):
    """Return what differs from asyncio: (asyncio's answer, the implementation's), by Key."""
    theirs, found = facts_of("asyncio", name), facts_of(implementation, name)
    absent = {
        subject
        for (_, subject, fact), value in found.items()
        if fact == "present" and value == repr(False)
    }
    names = {subject.partition(".")[2] for subject in absent}
    return {
        key: (theirs.get(key, "(nothing)"), found.get(key, "(nothing)"))
        for key in sorted({**theirs, **found})
        if theirs.get(key) != found.get(key)
        and (key.fact == "present" or key.subject not in absent)
        and key.fact.rpartition(".")[2] not in names
    }


# ---- Classes and instances ----

PREDICATES = [
    found
    for name, found in vars(inspect).items()
    if inspect.isfunction(found)
    and name.startswith("is")
    and len(inspect.signature(found).parameters) == 1
]
PREDICATES += [asyncio.iscoroutine, asyncio.isfuture, callable]


def said_of(found):
    """Which predicates are true of it."""
    return {
        f"{function.__module__}.{function.__name__}" for function in PREDICATES if function(found)
    }


ABCS = [getattr(collections.abc, name) for name in collections.abc.__all__]
ABCS += [contextlib.AbstractAsyncContextManager, contextlib.AbstractContextManager]
TYPES = [found for found in vars(types).values() if isinstance(found, type)]


@of("class", "instance", "attribute", "coroutine")
def kinds(case):
    """What inspect says, and asyncio."""
    return said_of(subject(case))


@of("class", "instance", "attribute", "coroutine")
def abcs(case):
    return {cls.__name__ for cls in ABCS if isinstance(subject(case), cls)}


@of("class", "instance", "coroutine")
def equality(case):
    found = subject(case)
    return found == found, found != found, found == None, hash(found) == hash(found), bool(found)  # noqa: E711


@of("class", "instance", "method", "coroutine")
def weak_references(case):
    found = subject(case)
    reference = weakref.ref(found)
    values = weakref.WeakValueDictionary({1: found})
    keys = weakref.WeakKeyDictionary({found: 1})
    return reference() is found, values[1] is found, keys[found]


def subject(case):
    """What the facts that are asked about everything are asked about."""
    if case.state is not None:
        return in_state(case)
    return case.of if case.attribute is None else case.value


OPERATIONS = {
    "call": lambda found: found(1, 2, 3),
    "len": len,
    "iter": iter,
    "next": next,
    "index": operator.index,
    "add": lambda found: found + 1,
    "less": lambda found: found < found,
    "contains": lambda found: 1 in found,
    "item": lambda found: found[0],
    "set item": lambda found: operator.setitem(found, 0, 1),
    "with": lambda found: found.__enter__(),
    "aiter": aiter,
    "missing": lambda found: found.no_such_name,
    "delete missing": lambda found: operator.delitem(vars(found), "no_such_name"),
    "format": lambda found: format(found, ">3"),
    "json": json.dumps,
    "str": str,
    "repr": repr,
    "pprint": pprint.pformat,
    "f-string": lambda found: f"{found}",
}


@of("instance")
def operations(case):
    return Each({name: result(operation, case.new()) for name, operation in OPERATIONS.items()})


@of("class")
def class_operations(case):
    return Each(
        {
            "index": lambda: case.cls[int],
            "union": lambda: type(case.cls | None),
            "repr": repr(case.cls),
            "too many": result(case.cls, 1, 2, 3),
            "unknown keyword": lambda: case.cls(nothing=1),
            "missing": lambda: case.cls.no_such_name,
            "by __new__": lambda: type(case.cls.__new__(case.cls)),
            "subclasses": lambda: type(case.cls.__subclasses__()),
        }
    )


def result(call, *arguments):
    """Return what a call returns or raises. A coroutine is closed."""
    try:
        found = call(*arguments)
    except Exception as error:
        return error
    if hasattr(found, "send") and not isinstance(found, type):
        found.close()
    return found


@of("class")
def names(case):
    more = {*dir(case.cls)} - {*dir(case.theirs)} - IMPLIED
    public = {name for name in more if not name.startswith("_")}
    return Each({"more": public, "more dunders": {name for name in more if name[:2] == "__"}})


@of("instance")
def instance_names(case):
    more = {*dir(case.self)} - {*dir(case.new(case.theirs))}
    public = {name for name in more if not name.startswith("_")}
    return Each({"more": public, "vars": {*vars(case.self)}})


@of("class")
def described(case):
    cls = case.cls
    return Each(
        {
            "module": lambda: cls.__module__,
            "name": lambda: cls.__name__,
            "qualname": lambda: cls.__qualname__,
            "doc": bool(cls.__doc__),
            "getdoc": bool(inspect.getdoc(cls)),
            "getmodule": inspect.getmodule(cls) is not None,
            "importable": getattr(sys.modules[cls.__module__], cls.__name__, None) is not None,
            "parameters": lambda: parameters_of(cls),
            "source": lambda: f"class {cls.__name__}(" in inspect.getsource(cls),
            "source file": lambda: inspect.getsourcefile(cls) is not None,
            "metaclass": type(cls),
            "names of bases": [base.__name__ for base in cls.__mro__],
            "immutable": bool(cls.__flags__ & 1 << 8),
            "base type": bool(cls.__flags__ & 1 << 10),
            "type hints": lambda: typing.get_type_hints(cls),
            "annotations": lambda: inspect.get_annotations(cls),
            "slots": hasattr(cls, "__slots__"),
            # attrs and dataclasses look for these in the classes' dicts.
            "has __dict__": any("__dict__" in vars(base) for base in cls.__mro__),
            "has __weakref__": any("__weakref__" in vars(base) for base in cls.__mro__),
            "abstract methods": bool(getattr(cls, "__abstractmethods__", ())),
            "text signature": lambda: cls.__text_signature__,
        }
    )


@of("class")
def relations(case):
    """Whether code that checks for asyncio's class accepts aiofastlock's."""
    self = case.self

    @functools.singledispatch
    def dispatched(_):
        return "object"

    dispatched.register(case.theirs, lambda _: "asyncio's")

    match self:
        case case.theirs():
            matched = True
        case _:
            matched = False
    return Each(
        {
            "isinstance": isinstance(self, case.theirs),
            "issubclass": issubclass(case.cls, case.theirs),
            "__class__": issubclass(self.__class__, case.theirs),
            "type": type(self) is case.cls,
            "is an instance of its own class": isinstance(self, case.cls),
            "singledispatch": dispatched(self),
            "match": matched,
            "except for": [
                name
                for name in NAMES
                if isinstance(self, getattr(asyncio, name)) and name != case.name
            ],
            "asyncio's is no instance": isinstance(case.new(case.theirs), case.cls),
            "subclass": isinstance(case.new(mine(case)), case.theirs),
            "union": isinstance(self, case.theirs | None),
            "mixin": issubclass(case.cls, case.theirs.__mro__[1]),
        }
    )


@of("instance")
def assigned(case):
    """What can be assigned to an instance."""
    self = case.self

    def vars_assigned():
        self.new = 1
        self.__dict__ = {**vars(self), "another": 2}
        return self.another

    def class_assigned():
        self.__class__ = mine(case)
        return type(self).__name__

    def twice():
        self.value = 1
        self.value = 2
        del self.value
        return hasattr(self, "value")

    def method():
        self.locked = lambda: "mine"
        return self.locked()

    return Each(
        {
            "twice": result(twice),
            "vars": lambda: vars(self).update(through=3) or self.through,
            "a method": result(method),
            "__dict__": result(vars_assigned),
            "__class__": result(class_assigned),
            "setattr": lambda: setattr(self, "x y", 1) or getattr(self, "x y"),
            "object.__setattr__": lambda: object.__setattr__(self, "z", 1) or self.z,
            "__doc__": lambda: setattr(self, "__doc__", "doc") or self.__doc__,
            "__module__": lambda: self.__module__,
            "delete missing": lambda: delattr(self, "no_such_name"),
        }
    )


@of("class")
def class_assigned(case):
    """What can be assigned to a class, and whether instances and subclasses see it."""
    cls, self, sub = case.cls, case.self, case.new(mine(case))

    def method():
        cls.added = lambda self: type(self).__name__
        try:
            return self.added(), sub.added()
        finally:
            del cls.added

    def attribute():
        cls.added = 1
        try:
            return self.added, sub.added, vars(cls)["added"]
        finally:
            del cls.added

    def named():
        if not cls.__flags__ & 1 << 9:  # no heap type, whose name is elsewhere
            raise RuntimeError("CPython crashes")
        old = cls.__name__
        cls.__name__ = "Renamed"
        try:
            return cls.__name__
        finally:
            cls.__name__ = old

    def documented():
        old = cls.__doc__
        cls.__doc__ = "doc"
        try:
            return self.__doc__
        finally:
            cls.__doc__ = old

    def initialised():
        with mock.patch.object(cls, "__init__", lambda self, *_: vars(self).update(made=True)):
            return case.new().made

    def represented():
        with mock.patch.object(cls, "__repr__", return_value="patched"):
            return repr(self), repr(sub), f"{case.new()}"

    def hooked():
        with mock.patch.object(cls, "__getattr__", lambda _, name: name, create=True):
            return self.nothing, sub.nothing

    def set_hook():
        log = []

        def setter(self, name, value):
            log.append(name)
            object.__setattr__(self, name, value)

        with mock.patch.object(cls, "__setattr__", setter):
            self.new = 1
        return log, self.new

    def compared():
        with mock.patch.object(cls, "__bool__", create=True, return_value=False):
            return bool(self), bool(sub)

    return Each(
        {
            "method": result(method),
            "attribute": result(attribute),
            "__name__": result(named),
            "__doc__": result(documented),
            "__init__": result(initialised),
            "__repr__": result(represented),
            "__getattr__": result(hooked),
            "__setattr__": result(set_hook),
            "__bool__": result(compared),
            "delete missing": lambda: delattr(cls, "no_such_name"),
        }
    )


@of("instance", "class")
def copies(case):
    """The class of the copy of an idle primitive, or of a class, and whether it is another one."""

    def copied(duplicate):
        found = duplicate(case.of)
        return found is case.of, found if isinstance(found, type) else type(found), repr(found)

    protocols = range(pickle.HIGHEST_PROTOCOL + 1)
    each = {f"pickle {p}": result(copied, functools.partial(repickled, p)) for p in protocols}
    each |= {"copy": result(copied, copy.copy), "deepcopy": result(copied, copy.deepcopy)}
    each["pickle in Python"] = result(copied, lambda found: pickle._loads(pickle._dumps(found)))
    each["replace"] = result(copied, getattr(copy, "replace", None))
    return Each(each)


def repickled(protocol, found):
    return pickle.loads(pickle.dumps(found, protocol))


@of("instance")
def reductions(case):
    """What pickle, copy and libraries like them ask an instance for."""
    return Each(
        {
            "__reduce_ex__ 2": lambda: type(case.self.__reduce_ex__(2)),
            "length of __reduce_ex__ 4": lambda: len(case.self.__reduce_ex__(4)),
            "__reduce_ex__ 4": lambda: case.self.__reduce_ex__(4)[0].__name__,
            "__reduce__": lambda: type(case.self.__reduce__()),
            "__getstate__": lambda: type(case.self.__getstate__()),
            "sizeof": sys.getsizeof(case.self) > 0,
            "gc.is_tracked": gc.is_tracked(case.self),
        }
    )


@of("instance")
def data_classes(case):
    @dataclasses.dataclass
    class Owner:
        primitive: case.theirs = dataclasses.field(default_factory=case.new)

    owner = Owner()
    return Each(
        {
            "repr": repr(owner).partition(".")[2],
            "asdict": lambda: type(dataclasses.asdict(owner)["primitive"]),
            "replace": dataclasses.replace(owner).primitive is owner.primitive,
            "equal": owner == Owner(owner.primitive),
        }
    )


# ---- Attributes, and methods as functions ----


@of("presence")
def present(case):
    return hasattr(case.of, case.attribute)


@of("attribute")
def kind(case):
    return type(case.value)


@of("attribute")
def static(case):
    """What it is in the class's dict, to those who look there."""
    found = inspect.getattr_static(case.cls, case.attribute, None)
    return type(found), said_of(found)


@of("attribute")
def classified(case):
    """What help() says of it."""
    found = {entry.name: entry.kind for entry in inspect.classify_class_attrs(case.cls)}
    return found.get(case.attribute)


@of("data")
def value(case):
    return case.value


@of("data")
def data_assigned(case):
    """Whether it can be assigned and deleted."""

    def assigned(new):
        self = case.new()
        setattr(self, case.attribute, new)
        return getattr(self, case.attribute) is new

    def deleted():
        self = case.new()
        delattr(self, case.attribute)
        return hasattr(self, case.attribute)

    return Each(
        {
            "what it is": lambda: assigned(case.value),
            "None": result(assigned, None),
            "object": result(assigned, object()),
            "list": result(assigned, []),
            "delete": result(deleted),
            "in vars": case.attribute in vars(case.self),
            "patch": result(patched, case, "self", {"new": 5}),
        }
    )


@of("method")
def types_of(case):
    return {found.__name__ for found in TYPES if isinstance(case.value, found)}


@of("method")
def signature(case):
    return str(inspect.signature(case.value))


@of("method")
def annotations(case):
    return inspect.get_annotations(case.value)


@of("method")
def type_hints(case):
    return typing.get_type_hints(case.value)


@of("method")
def parameters(case):
    return parameters_of(case.value)


def parameters_of(found):
    parameters = inspect.signature(found).parameters.values()
    return [f"{each.kind.name} {each.replace(annotation=each.empty)}" for each in parameters]


@of("method")
def full_arguments(case):
    return list(inspect.getfullargspec(case.value))[:6]


@of("method")
def bound_arguments(case):
    return inspect.getcallargs(case.value, *([1] if case.owner == "cls" else []))


@of("method")
def found_by_inspect(case):
    method = case.value
    return Each(
        {
            "module": inspect.getmodule(method) is not None,
            "doc": inspect.getdoc(method) is not None or inspect.getdoc(original(case)) is None,
            "source": lambda: bool(inspect.getsource(method)),
            "source file": lambda: inspect.getsourcefile(method) is not None,
            "lines": lambda: inspect.getsourcelines(method)[1] > 0,
            "unwrap": lambda: inspect.unwrap(method) is method,
        }
    )


def original(case):
    return getattr(case.theirs, case.attribute)


def attributes_of_functions():
    def function():
        pass

    return sorted({*dir(function), *dir(types.MethodType)} - {*dir(object), "__weakref__"})


COMPARED = ["__name__", "__qualname__", "__module__", "__defaults__", "__kwdefaults__"]


@of("method")
def function_attributes(case):
    """Each attribute that functions and bound methods have."""
    each = {}
    for name in attributes_of_functions():
        found = result(getattr, case.value, name)
        if name == "__closure__":  # super() makes one
            found = result(hasattr, case.value, name)
        each[name] = found if name in COMPARED or isinstance(found, Exception) else type(found)
    return Each(each)


@of("method")
def code(case):
    found = case.value.__code__
    return (
        found.co_name,
        found.co_flags & (inspect.CO_COROUTINE | inspect.CO_GENERATOR),
        found.co_varnames[: found.co_argcount],
        [found.co_argcount, found.co_kwonlyargcount, found.co_posonlyargcount],
    )


@of("method")
def qualname(case):
    return case.value.__qualname__.split(".")


@of("method")
def identity(case):
    def key(method):
        return {method: 1}[getattr(case.of, case.attribute)]

    first, second = case.value, case.value
    other = getattr(case.new(), case.attribute)
    return Each(
        {
            "same": first == second,
            "hash": hash(first) == hash(second),
            "other": first == other,
            "is": first is second,
            "key": key(first),
            "bool": bool(first),
            "less": lambda: first < second,
            "repr": repr(first),
        }
    )


@of("method")
def weak_methods(case):
    return weakref.WeakMethod(case.value)() == case.value


@of("method of self", when=FREES_AT_ONCE)
def freed(case):
    """Whether a bound method that nothing holds is gone, as WeakMethod is there for."""
    reference = weakref.ref(case.value)
    return reference() is None


@of("method of self")
def binding(case):
    method, self, sub = case.value, case.self, mine(case)
    return Each(
        {
            "__self__": lambda: method.__self__ is self,
            "__func__": lambda: method.__func__ is getattr(case.cls, case.attribute),
            "made": lambda: types.MethodType(getattr(case.cls, case.attribute), self) == method,
            "__get__": lambda: getattr(case.cls, case.attribute).__get__(self) == method,
            "super": lambda: getattr(super(sub, case.new(sub)), case.attribute).__name__,
            "assigned": result(setattr, method, "added", 1),
            "keeps alive": gc.get_referents(method) != [],
        }
    )


@of("method of cls")
def unbound(case):
    function, is_dunder = case.value, case.attribute.startswith("__")
    return Each(
        {
            "assigned": result(function_assigned, function),
            "vars": lambda: type(vars(function)),
            "through the class": function.__get__(None, case.cls) is function,
            "in the class": any(case.attribute in vars(cls) for cls in case.cls.__mro__[:-1]),
            "object": lambda: is_dunder or type(result(called, function, object())),
            "None": lambda: is_dunder or type(result(called, function, None)),
            "nothing": result(called, function),
            "asyncio's function": lambda: (
                case.attribute in ("locked", "is_set", "__repr__")
                and getattr(case.theirs, case.attribute)(case.self)
            ),
        }
    )


def function_assigned(function):
    function.added = 1
    try:
        return function.added
    finally:
        del function.added


def called(function, *arguments, **keywords):
    """Call a method with wrong arguments, and drive the coroutine that it may return."""
    found = function(*arguments, **keywords)
    if hasattr(found, "send"):
        try:
            found.send(None)
        finally:
            found.close()
    return type(found)


@of("method")
def call_errors(case):
    method = case.value
    arguments = [case.new()] if case.owner == "cls" else []
    return Each(
        {
            "too many": result(called, method, *arguments, *[None] * 7),
            "none": result(called, method, *arguments),
            "keyword": lambda: called(method, *arguments, nothing=None),
            "twice": lambda: called(method, *arguments, None, fn=1, predicate=2, n=3),
        }
    )


@of("method")
def copied_method(case):
    method = case.value

    def duplicated(duplicate):
        found = duplicate(method)
        same = getattr(found, "__self__", None) is getattr(method, "__self__", None)
        return found == method, same, type(found), found.__name__

    protocols = range(pickle.HIGHEST_PROTOCOL + 1)
    each = {f"pickle {p}": result(duplicated, functools.partial(repickled, p)) for p in protocols}
    each |= {"copy": result(duplicated, copy.copy), "deepcopy": result(duplicated, copy.deepcopy)}
    return Each(each)


@of("method")
def wrapped(case):
    """What functools makes of it."""
    method = case.value

    @functools.wraps(method)
    def wrapper(*_):
        return "wrapped"

    partial = functools.partial(method)

    class Owner:
        method = functools.partialmethod(case.value)
        assigned = case.value

    def same_signature(found):
        return inspect.signature(found) == inspect.signature(method)

    return Each(
        {
            "name": lambda: [wrapper.__name__, wrapper.__qualname__ == method.__qualname__],
            "wrapped": lambda: wrapper.__wrapped__ == method,
            "unwrapped": lambda: inspect.unwrap(wrapper) == method,
            "signature": lambda: same_signature(wrapper),
            "vars": lambda: sorted(vars(wrapper)),
            "partial": lambda: inspect.iscoroutinefunction(partial),
            "signature of partial": lambda: same_signature(partial),
            "partialmethod": lambda: inspect.iscoroutinefunction(Owner().method),
            "signature of partialmethod": lambda: same_signature(Owner.method),
            "in another class": lambda: type(Owner().assigned),
            "singledispatch": lambda: functools.singledispatch(method).__name__,
            "staticmethod": lambda: staticmethod(method).__name__,
            "classmethod": lambda: classmethod(method).__name__,
            "cached": lambda: functools.cache(method).__name__,
            "abstract": lambda: case.owner == "cls" or abc.abstractmethod(method),
        }
    )


# ---- Mocks ----


@of("class", "no subclass")
def mocks(case):
    """What kind of mock each attribute of a mock gets."""
    makers = {
        "create_autospec": mock.create_autospec,
        "AsyncMock": lambda spec: mock.AsyncMock(spec=spec),
        "MagicMock": lambda spec: mock.MagicMock(spec=spec),
        "spec_set": lambda spec: mock.MagicMock(spec_set=spec),
        "NonCallableMock": lambda spec: mock.NonCallableMock(spec=spec),
    }
    if case.owner == "cls":
        makers["create_autospec of an instance"] = lambda spec: mock.create_autospec(
            spec, instance=True
        )
    each = {"isinstance": isinstance(mock.create_autospec(case.of), case.theirs)}
    for name, maker in makers.items():
        made = maker(case.of)
        each[name] = type(made).__name__
        for attribute in sorted(dir(case.theirs)):
            if is_own(case.name, attribute) and not attribute.startswith("__"):
                each[f"{name}.{attribute}"] = result(
                    lambda made=made, attribute=attribute: type(getattr(made, attribute)).__name__
                )
    return Each(each)


@of("class")
def awaited_mocks(case):
    async def awaited():
        made = mock.create_autospec(case.cls, instance=True)
        for method in coroutine_methods(case.name):
            if not method.startswith("__") and hasattr(case.theirs, method):
                await getattr(made, method)(*CALLED.get(method, ()))
        return sorted(str(call) for call in made.mock_calls)

    return awaited()


@of("method")
def autospec(case):
    made = mock.create_autospec(case.value)
    same = inspect.signature(made) == inspect.signature(case.value)
    return type(made).__name__, inspect.iscoroutinefunction(made), same


@of("method")
def side_effect(case):
    """Whether an AsyncMock awaits it: not if it is no coroutine function."""

    async def called():
        self = prepare(case, waits=False)
        method = getattr(case.cls if case.owner == "cls" else self, case.attribute)
        made = mock.AsyncMock(side_effect=method)
        found = await made(*[self] * (case.owner == "cls"), *arguments_of(case))
        return result(lambda: found)

    return called() if case.attribute in coroutine_methods(case.name) else None


PATCHES = {
    "plain": {},
    "autospec": {"autospec": True},
    "spec": {"spec": True},
    "new_callable": {"new_callable": mock.AsyncMock},
    "return_value": {"return_value": 7},
    "new": {"new": lambda *_: 7},
}


def patched(case, owner, keywords):
    """Return the kind of mock that a patch puts there, and whether it is gone afterwards."""
    found = case.cls if owner == "cls" else case.self
    before, static = getattr(found, case.attribute), case.attribute in vars(found)
    with mock.patch.object(found, case.attribute, **keywords) as made:
        kind = type(made).__name__, inspect.iscoroutinefunction(made)
        seen = getattr(found, case.attribute)
        reached = type(seen).__name__, inspect.iscoroutinefunction(seen)
        of_instance = type(getattr(case.self, case.attribute)).__name__
    after = getattr(found, case.attribute)
    return kind, reached, of_instance, after == before, (case.attribute in vars(found)) == static


@of("method")
def patches(case):
    return Each(
        {name: result(patched, case, case.owner, kw) for name, kw in PATCHES.items()}
        | {
            "wraps": lambda: (
                case.attribute == "__init__" or patched(case, case.owner, {"wraps": case.value})
            )
        }
    )


@of("method of self")
def patched_elsewhere(case):
    """What an instance sees of patches of its class, and the class of patches of an instance."""
    self, cls, name = case.self, case.cls, case.attribute
    with mock.patch.object(self, name, new=1):
        of_class = getattr(cls, name) == 1, getattr(case.new(), name) == 1, getattr(self, name)

    def of_instance():
        with mock.patch.object(cls, name, new=1):
            return (
                getattr(self, name),
                getattr(case.new(), name),
                getattr(case.new(mine(case)), name),
            )

    return Each({"instance": of_class, "class": result(of_instance)})


PATCHED = {
    "Lock": ["acquire", "release", "locked", "__aenter__", "__aexit__"],
    "Event": ["wait", "set", "clear", "is_set"],
    "Condition": ["wait", "notify", "notify_all", "wait_for", "__aenter__", "__aexit__"],
    "Semaphore": ["acquire", "release", "locked", "__aenter__", "__aexit__"],
    "BoundedSemaphore": ["acquire", "release", "locked", "__aenter__", "__aexit__"],
    "Barrier": ["wait", "abort", "reset", "__aenter__", "__aexit__"],
}


@of("class", "instance")
def patched_calls(case):
    """Which calls of an ordinary program go through the patch of a class or an instance."""

    async def run(name):
        log = []
        primitive = case.new()
        found = case.cls if case.owner == "cls" else primitive
        before = getattr(found, name)

        def recorded(*arguments, **keywords):
            log.append(name)
            return before(*arguments, **keywords)

        with mock.patch.object(found, name, recorded):
            await ordinary(primitive, case.name)
        await ordinary(primitive, case.name)
        return {*log}

    async def all_of_them():
        each = {}
        for name in PATCHED[case.name]:
            try:
                each[name] = await run(name)
            except Exception as error:
                each[name] = error
        return Each(each)

    return all_of_them()


async def ordinary(primitive, name):
    """A program that uses a primitive in every way."""

    async def enter():
        async with primitive:
            await asyncio.sleep(0)

    if name == "Event":
        waiting = asyncio.create_task(primitive.wait())
        await asyncio.sleep(0)
        primitive.set()
        await waiting
        await primitive.wait()
        primitive.is_set()
        primitive.clear()
    elif name == "Barrier":
        await asyncio.gather(enter(), enter())
        await asyncio.gather(primitive.wait(), primitive.wait())
        await primitive.reset()
    else:
        await asyncio.gather(enter(), enter())
    if name == "Condition":

        async def wait(method, *arguments):
            async with primitive:
                await method(*arguments)

        ready = itertools.chain([False], itertools.repeat(True))
        tasks = asyncio.gather(wait(primitive.wait), wait(primitive.wait_for, lambda: next(ready)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        async with primitive:
            primitive.notify()
            primitive.notify_all()
        await tasks


# ---- Subclasses ----


def mine(case, *more, **namespace):
    """Make a subclass; the last one can be pickled."""
    namespace = {"__module__": __name__, **namespace}
    cls = types.new_class("Mine", (case.cls, *more), {}, lambda body: body.update(namespace))
    globals()["Mine"] = cls
    return cls


@of("class")
def subclasses(case):
    """Whether each kind of subclass can be made, used, copied, and referred to weakly."""

    def init(self, *arguments):
        case.cls.__init__(self, *arguments)
        self.made = True

    class Plain:
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.plain = True

    class Base(abc.ABC):  # noqa: B024
        pass

    class WithMethod(abc.ABC):
        @abc.abstractmethod
        def acquire(self): ...

    class Slotted:
        __slots__ = ()

    class Named(NamedTuple):
        x: int

    def data_class(**options):
        def made():
            cls = mine(
                case,
                __annotations__={"x": int},
                x=0,
                __post_init__=lambda self: case.cls.__init__(self, *CONSTRUCTED.get(case.name, [])),
            )
            return dataclasses.dataclass(eq=False, repr=False, **options)(cls)

        return made

    def generic():
        return types.new_class(
            "Mine", (case.cls, Generic[T]), {}, lambda body: body.update(__module__=__name__)
        )[int]

    makers = {
        "empty": lambda: mine(case),
        "of an empty one": lambda: type("Mine", (mine(case),), {}),
        "slots": lambda: mine(case, __slots__=("x",)),
        "empty slots": lambda: mine(case, __slots__=()),
        "__dict__ slot": lambda: mine(case, __slots__=("__dict__",)),
        "__weakref__ slot": lambda: mine(case, __slots__=("__weakref__",)),
        "init": lambda: mine(case, __init__=init),
        "new": lambda: mine(case, __new__=lambda cls, *_: case.cls.__new__(cls)),
        "plain first": lambda: type("Mine", (Plain, case.cls), {}),
        "plain last": lambda: mine(case, Plain),
        "slotted first": lambda: type("Mine", (Slotted, case.cls), {"__slots__": ()}),
        "abc": lambda: abc.ABCMeta("Mine", (case.cls, Base), {}),
        "abc first": lambda: abc.ABCMeta("Mine", (Base, case.cls), {}),
        "abstract method": lambda: abc.ABCMeta("Mine", (case.cls, WithMethod), {}),
        "abstract method first": lambda: abc.ABCMeta("Mine", (WithMethod, case.cls), {}),
        "generic": generic,
        "dict": lambda: mine(case, dict),
        "list first": lambda: type("Mine", (list, case.cls), {}),
        "exception": lambda: mine(case, Exception),
        "StringIO first": lambda: type("Mine", (io.StringIO, case.cls), {}),
        "asyncio's too": lambda: (
            mine(case, case.theirs) if case.implementation != "asyncio" else mine(case)
        ),
        "another primitive": lambda: mine(
            case, case.module.Lock if case.name != "Lock" else case.module.Event
        ),
        "dataclass": data_class(),
        "dataclass with slots": data_class(slots=True),
        "dataclass with weak references": data_class(slots=True, weakref_slot=True),
        "__getattr__": lambda: mine(case, __getattr__=lambda _, name: name),
        "__eq__": lambda: mine(case, __eq__=lambda *_: True, __hash__=lambda _: 1),
        "__bool__": lambda: mine(case, __bool__=lambda _: False),
        "__class_getitem__": lambda: mine(case, __class_getitem__=classmethod(lambda cls, _: cls))[
            1
        ],
        "property": lambda: mine(case, acquire=property(lambda _: 5)),
        "None": lambda: mine(case, release=None),
        "class attributes": lambda: mine(case, _loop=None, _waiters=None, _value=0, _locked=0),
        "__init_subclass__": lambda: types.new_class(
            "Mine",
            (mine(case, __init_subclass__=lambda **_: None),),
            {"option": 1},
        ),
        "keyword": lambda: types.new_class("Mine", (case.cls,), {"option": 1}),
    }

    def used(maker):
        cls = maker()
        self = case.new(cls)
        self.__dict__["mark"] = 1
        found = [isinstance(self, case.cls), repr(self)]
        found += [weakref.ref(self)() is self, hasattr(self, "made"), hasattr(self, "plain")]
        found += [type(copy.copy(self)).__name__, copy.copy(self).mark]

        return found

    return Each({name: result(used, maker) for name, maker in makers.items()})


HOOKS = {
    "Lock": ["acquire", "release", "locked", "_wake_up_first", "_get_loop"],
    "Event": ["wait", "set", "is_set", "_get_loop"],
    "Condition": ["wait", "notify", "notify_all", "_get_loop", "_notify"],
    "Semaphore": ["acquire", "release", "locked", "_wake_up_next", "_get_loop"],
    "BoundedSemaphore": ["acquire", "release", "locked", "_wake_up_next", "_get_loop"],
    "Barrier": ["wait", "abort", "reset", "_get_loop"],
}


@of("class")
def hooks(case):
    """Which overridden methods an ordinary program calls, and how often."""

    async def each_of_them():
        each = {}
        for name in HOOKS[case.name]:
            if not hasattr(case.theirs, name):
                continue
            log = []

            def hook(self, *arguments, name=name, log=log):
                log.append(name)
                return getattr(case.cls, name)(self, *arguments)

            try:
                await ordinary(case.new(mine(case, **{name: hook})), case.name)
            except Exception as error:
                log.append(error)
            each[name] = {*map(shown, log)}
        return Each(each)

    return each_of_them()


@of("instance")
def initialised_again(case):
    async def again():
        self = case.self
        if case.name == "Event":
            self.set()
        elif case.name == "Barrier":
            await self.abort()
        else:
            await self.acquire()
        before = repr(self)
        self.added = 1
        self.__init__(*CONSTRUCTED.get(case.name, []))
        return before, repr(self), self.added

    return again()


# ---- Coroutines ----


def arguments_of(case):
    return CALLED.get(case.attribute, ())


def lock(self):
    with contextlib.suppress(StopIteration):
        self.acquire().send(None)


def prepare(case, waits):
    """Make a primitive for which a call of the method waits, or one for which it does not."""
    name, method = case.name, case.attribute
    if name == "Barrier":
        return (mine(case) if case.owner == "sub" else case.cls)(2 if waits else 1)
    self = case.new()
    if name in QUEUES:
        if method == "put" and waits:
            self._maxsize = 1
        if method == ("join" if waits else "get") or (method == "put" and waits):
            self.put_nowait(1)
    elif name == "Event":
        if not waits:
            self.set()
    elif waits or method not in ("acquire", "__aenter__"):
        lock(self)
        if name == "Condition" and method == "wait" and not waits:
            asyncio.get_running_loop().call_soon(notify_soon, self)
    return self


def notify_soon(condition, tries=10):
    """Notify the task that waits, as wait() always does, once it waits."""
    if condition._waiters:
        lock(condition)
        condition.notify()
        condition.release()
    elif tries:
        asyncio.get_running_loop().call_soon(notify_soon, condition, tries - 1)


def call(case, waits=True):
    """Call the method, and see to it that the coroutine is closed in the end."""
    case.primitive = self = prepare(case, waits)
    arguments = arguments_of(case)
    if case.attribute == "wait_for" and waits:
        arguments = (lambda: False,)
    coroutine = getattr(self, case.attribute)(*arguments)
    case.coroutines.append(coroutine)
    case.nameless.add(type(coroutine))
    return coroutine


def in_state(case):
    if case.state != "finished":
        coroutine = call(case)
        if case.state == "suspended":
            coroutine.send(None)
        elif case.state == "closed":
            coroutine.close()
        return coroutine
    coroutine = call(case, waits=False)
    try:
        coroutine.send(None)
        coroutine.throw(asyncio.CancelledError)  # of wait()
    except (StopIteration, asyncio.CancelledError):
        return coroutine
    raise RuntimeError("it waits")


async def nothing():
    pass


def attributes_of_coroutines():
    coroutine = nothing()
    coroutine.close()
    return [name for name in dir(coroutine) if name not in dir(object)]


ATTRIBUTES_OF_COROUTINES = attributes_of_coroutines()


@of("coroutine")
def coroutine_attributes(case):
    coroutine = in_state(case)
    each = {}
    for name in ATTRIBUTES_OF_COROUTINES:
        found = result(lambda name=name: getattr(coroutine, name))
        simple = isinstance(found, str | bool | Exception) or found is None
        each[name] = found if simple else type(found)
        if isinstance(found, types.CodeType):
            each[name] = found.co_name
    each["qualname"] = coroutine.__qualname__.split(".")
    theirs = {*ATTRIBUTES_OF_COROUTINES, *dir(object)}
    each["more"] = {name for name in {*dir(coroutine)} - theirs if name[0] != "_"}
    return Each(each)


@of("coroutine")
def coroutine_state(case):
    coroutine = in_state(case)
    return Each(
        {
            "getcoroutinestate": result(inspect.getcoroutinestate, coroutine),
            "getcoroutinelocals": result(lambda: "self" in inspect.getcoroutinelocals(coroutine)),
            "getgeneratorstate": result(inspect.getgeneratorstate, coroutine),
            "type": type(coroutine),
            "types": {found.__name__ for found in TYPES if isinstance(coroutine, found)},
            "repr": repr(coroutine),
            "traceback": names_of_frames(step(STEPS["throw instance"], coroutine))[2:3],
        }
    )


@of("coroutine")
def coroutine_assigned(case):
    coroutine = in_state(case)

    def assigned(name, value):
        setattr(coroutine, name, value)
        return getattr(coroutine, name)

    def deleted(name):
        delattr(coroutine, name)

    writable = {
        f"{name} = {value!r}": result(assigned, name, value)
        for name in ("__name__", "__qualname__")
        for value in ("renamed", 1)
    }
    writable |= {f"del {name}": result(deleted, name) for name in ("__name__", "__qualname__")}
    others = ["added", *(name for name in ATTRIBUTES_OF_COROUTINES if name.startswith("cr_"))]
    return Each(
        writable
        | {f"{name} = None": kind_of_error(result(assigned, name, None)) for name in others}
        | {f"del {name}": kind_of_error(result(deleted, name)) for name in others}
        | {"repr": repr(coroutine)}
    )


@of("coroutine")
def coroutine_operations(case):
    coroutine = in_state(case)
    each = {name: result(operation, coroutine) for name, operation in OPERATIONS.items()}
    each["copy"] = result(copy.copy, coroutine)
    each["deepcopy"] = result(copy.deepcopy, coroutine)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        each[f"pickle {protocol}"] = result(pickle.dumps, coroutine, protocol)
    return Each(each)


def kind_of_error(found):
    """Leave out an error's text, where only nonsense raises it: C words it as Python does not."""
    return type(found) if isinstance(found, Exception) else found


class Weird(BaseException):
    def __init__(self, *_):
        super().__init__("weird")


STEPS = {
    "send None": lambda coroutine: coroutine.send(None),
    "send 1": lambda coroutine: coroutine.send(1),
    "close": lambda coroutine: coroutine.close(),
    "throw class": lambda coroutine: coroutine.throw(KeyError),
    "throw instance": lambda coroutine: coroutine.throw(KeyError("x")),
    "throw class, value": lambda coroutine: coroutine.throw(KeyError, "x"),
    "throw class, instance": lambda coroutine: coroutine.throw(KeyError, KeyError("y")),
    "throw class, tuple": lambda coroutine: coroutine.throw(KeyError, (2, "z")),
    "throw instance, value": lambda coroutine: coroutine.throw(KeyError("x"), 1),
    "throw 1": lambda coroutine: coroutine.throw(1),
    "throw bad traceback": lambda coroutine: coroutine.throw(KeyError, None, 1),
    "throw int": lambda coroutine: coroutine.throw(int),
    "throw StopIteration": lambda coroutine: coroutine.throw(StopIteration(5)),
    "throw StopAsyncIteration": lambda coroutine: coroutine.throw(StopAsyncIteration(5)),
    "throw GeneratorExit": lambda coroutine: coroutine.throw(GeneratorExit),
    "throw CancelledError": lambda coroutine: coroutine.throw(asyncio.CancelledError("msg")),
    "throw BaseException": lambda coroutine: coroutine.throw(Weird),
}


WRONG_ARGUMENTS = {
    "send": lambda coroutine: coroutine.send(),
    "close": lambda coroutine: coroutine.close(1),
    "throw": lambda coroutine: coroutine.throw(),
}


def step(act, coroutine):
    try:
        return act(coroutine)
    except BaseException as error:
        return error


@of("coroutine")
def wrong_arguments(case):
    coroutine = in_state(case)
    each = {name: kind_of_error(step(act, coroutine)) for name, act in WRONG_ARGUMENTS.items()}
    wrapper = step(lambda found: found.__await__(), in_state(case))
    for name, act in WRONG_ARGUMENTS.items():
        each[f"__await__().{name}"] = kind_of_error(step(act, wrapper))
    return Each(each)


@of("coroutine")
def steps(case):
    """What each step of a coroutine returns or raises, and what it is afterwards."""
    each = {}
    for name, act in STEPS.items():
        coroutine = in_state(case)
        first = step(act, coroutine)
        cause = getattr(first, "__cause__", None), getattr(first, "__context__", None)
        then = step(STEPS["send None"], coroutine), step(STEPS["close"], coroutine)
        each[name] = first, cause, getattr(first, "args", None), *then
    return Each(each)


@of("coroutine")
def awaiting(case):
    """What `__await__()` returns."""
    coroutine = in_state(case)
    wrapper = result(coroutine.__await__)
    case.nameless.add(type(wrapper))
    if isinstance(wrapper, Exception):
        return wrapper
    return Each(
        {
            "type": type(wrapper).__name__,
            "abcs": {cls.__name__ for cls in ABCS if isinstance(wrapper, cls)},
            "dir": {name for name in dir(wrapper) if name not in dir(object)},
            "iter": lambda: iter(wrapper) is wrapper,
            "repr": repr(wrapper),
            "weak": lambda: weakref.ref(wrapper)() is wrapper,
            "steps": [result(step, act, in_state(case).__await__()) for act in STEPS.values()],
            "next": step(next, wrapper),
        }
    )


@of("call", when=FREES_AT_ONCE)
def never_awaited(case):
    coroutine = call(case)
    case.coroutines.clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del coroutine
    return [(each.category, str(each.message), each.source is None) for each in caught]


@of("call", when=FREES_AT_ONCE)
def never_awaited_with_origin(case):
    before = sys.get_coroutine_origin_tracking_depth()
    sys.set_coroutine_origin_tracking_depth(2)
    try:
        coroutine = call(case)
        origin = [frame[2] for frame in coroutine.cr_origin or ()]
        case.coroutines.clear()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del coroutine
    finally:
        sys.set_coroutine_origin_tracking_depth(before)
    return origin, ["created at" in str(each.message) for each in caught]


@of("call")
@without_a_loop
def run(case):
    if case.attribute == "wait" and case.name == "Condition":
        return None  # it would wait forever
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        return runner.run(call(case, waits=False))


async def ended(found):
    """Return what a coroutine returns or raises."""
    try:
        return await found
    except Exception as error:
        return error


@types.coroutine
def delegating(coroutine):
    return (yield from coroutine)


def plainly_delegating(coroutine):
    def generator():
        return (yield from coroutine)

    return list(generator())


class Delegating:
    def __init__(self, coroutine):
        self.coroutine = coroutine

    def __await__(self):
        return self.coroutine.__await__()


class DelegatingGenerator(Delegating):
    def __await__(self):
        return (yield from self.coroutine.__await__())


async def pushed(coroutine):
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(lambda: coroutine)


async def grouped(coroutine):
    async with asyncio.TaskGroup() as group:
        return await group.create_task(coroutine)


async def twice(coroutine):
    return await ended(coroutine), await ended(coroutine)


USES = {
    "await": lambda coroutine: coroutine,
    "create_task": asyncio.create_task,
    "named task": lambda coroutine: asyncio.create_task(coroutine, name="named"),
    "ensure_future": asyncio.ensure_future,
    "gather": asyncio.gather,
    "shield": asyncio.shield,
    "wait_for": lambda coroutine: asyncio.wait_for(coroutine, 9),
    "as_completed": lambda coroutine: next(iter(asyncio.as_completed([coroutine]))),
    "wait": lambda coroutine: asyncio.wait([coroutine]),
    "types.coroutine": delegating,
    "an object": Delegating,
    "gather an object": lambda coroutine: asyncio.gather(Delegating(coroutine)),
    "wait_for an object": lambda coroutine: asyncio.wait_for(Delegating(coroutine), 9),
    "an object by yield from": DelegatingGenerator,
    "gather an object by yield from": lambda coroutine: asyncio.gather(
        DelegatingGenerator(coroutine)
    ),
    "a plain generator": plainly_delegating,
    "AsyncExitStack": pushed,
    "task group": grouped,
    "by a context": lambda coroutine: asyncio.create_task(
        coroutine, context=contextvars.copy_context()
    ),
    "twice": twice,
}


@of("call")
def uses(case):
    """What each way to await a coroutine returns or raises."""

    async def each_of_them():
        each = {}
        for name, use in USES.items():
            try:
                each[name] = await use(call(case, waits=False))
            except BaseException as error:
                each[name] = error
        return Each(each)

    return each_of_them()


@of("wait")
def while_it_waits(case):
    """What can be seen of a task that waits."""

    async def outer(coroutine):
        return await coroutine

    async def looked():
        direct = asyncio.create_task(call(case), name="direct")
        coroutine = outer(call(case))
        indirect = asyncio.create_task(coroutine, name="indirect")
        await asyncio.sleep(0)
        inner = case.coroutines[-1]
        another = asyncio.create_task(outer(inner))
        await asyncio.sleep(0)
        printed = io.StringIO()
        indirect.print_stack(file=printed)
        found = {
            "get_coro": direct.get_coro() is case.coroutines[0],
            "repr": repr(direct).partition(" wait_for")[0],
            "repr of an outer task": repr(indirect).partition("running at")[0],
            "get_stack": [frame.f_code.co_name for frame in direct.get_stack()],
            "get_stack of an outer task": [f.f_code.co_name for f in indirect.get_stack()],
            "print_stack": printed.getvalue().count("File"),
            "cr_await of the outer": coroutine.cr_await is inner,
            "chain": list(chain(coroutine)),
            "awaited by two": str(another.exception()) if another.done() else None,
        }
        if sys.version_info >= (3, 14):
            graph = asyncio.capture_call_graph(direct)
            found["call graph"] = [
                entry.frame.f_code.co_name if entry.frame else None for entry in graph.call_stack
            ]
            indirect_graph = asyncio.capture_call_graph(indirect)
            found["call graph of an outer task"] = [
                entry.frame.f_code.co_name for entry in indirect_graph.call_stack
            ]
        for task in (direct, indirect, another):
            task.cancel("reason")
        done = await asyncio.gather(direct, indirect, another, return_exceptions=True)
        found["cancelled"] = [(error, error.args) for error in done]
        return Each(found)

    return looked()


def names_of_frames(error):
    return [frame.name for frame in traceback.extract_tb(error.__traceback__)]


def chain(awaitable):
    """Walk along what is awaited, as tools that show stacks of tasks do."""
    while awaitable is not None:
        yield type(awaitable).__name__
        awaitable = getattr(awaitable, "cr_await", None)


@of("wait")
def while_it_runs(case):
    """What a coroutine says in the middle of a step."""
    loop = asyncio.get_running_loop()
    each = {}

    def create_future():
        each.update(
            {
                "cr_running": result(lambda: coroutine.cr_running),
                "cr_suspended": result(lambda: coroutine.cr_suspended),
                "cr_frame": result(lambda: type(coroutine.cr_frame)),
                "cr_await": result(lambda: type(coroutine.cr_await)),
                "state": result(inspect.getcoroutinestate, coroutine),
                "send": step(STEPS["send None"], coroutine),
                "throw": step(STEPS["throw instance"], coroutine),
                "close": step(STEPS["close"], coroutine),
                "await": step(lambda found: next(found.__await__()), coroutine),
            }
        )
        return type(loop).create_future(loop)

    coroutine = call(case)
    with mock.patch.object(loop, "create_future", create_future):
        coroutine.send(None)
    return Each(each)


@of("wait")
def frame(case):
    """The frame of a parked coroutine, which asyncio's call graphs show, and its end."""
    coroutine = call(case)
    coroutine.send(None)
    found = coroutine.cr_frame
    again = coroutine.cr_frame
    generator = getattr(found, "f_generator", None)  # from Python 3.14 on
    before = (
        found is again,
        found.f_code is coroutine.cr_code,
        getattr(generator, "__qualname__", None),
        inspect.iscoroutine(generator),
    )
    coroutine.close()
    return before, coroutine.cr_frame, found.f_code is coroutine.cr_code


@of("wait")
def future(case):
    """The future that a coroutine waits on."""
    coroutine = call(case)
    found = coroutine.send(None)
    before = found._asyncio_future_blocking
    found._asyncio_future_blocking = False
    return Each(
        {
            "type": type(found),
            "blocking": before,
            "loop": found.get_loop() is asyncio.get_running_loop(),
            "callbacks": found._callbacks,
            "done": found.done(),
            "repr": repr(found),
            "send before it is done": step(STEPS["send None"], coroutine),
        }
    )


@of("wait")
@without_a_loop
def without_running_loop(case):
    """What waiting raises where no loop runs."""
    return step(STEPS["send None"], call(case))


# ---- The queue, and what lies in the loop's ----


@of("instance")
def waiters(case):
    """`_waiters` while a task waits, and what a deque can do."""
    if case.name == "Barrier":
        return None
    case.attribute = "wait" if case.name in ("Event", "Condition") else "acquire"
    coroutine = call(case)
    found_future = coroutine.send(None)
    found = case.primitive
    waiting = found._waiters
    return Each(
        {
            "type": type(waiting),
            "length": len(waiting),
            "first": waiting[0] is found_future,
            "last": waiting[-1] is found_future,
            "iter": [each is found_future for each in waiting],
            "in": found_future in waiting,
            "bool": bool(waiting),
            "attributes": {name for name in dir(collections.deque) if not hasattr(waiting, name)},
            "repr": repr(found),
            "same": found._waiters is waiting,
            "copy": lambda: copy.copy(found),
            "deepcopy": lambda: copy.deepcopy(found),
            "pickle": lambda: pickle.dumps(found),
        }
    )


async def woken(case, cls=None):
    """Return the handle of a task that was woken, and the task."""
    waits = case.name in ("Event", "Condition", "Barrier")
    case.attribute = "get" if case.name in QUEUES else "wait" if waits else "acquire"
    task = asyncio.create_task(call(case))
    await asyncio.sleep(0)
    if case.name == "Event":
        case.primitive.set()
    elif case.name in QUEUES:
        case.primitive.put_nowait(1)
    elif case.name == "Barrier":
        finish(case.primitive.wait())
    elif case.name == "Condition":
        lock(case.primitive)
        case.primitive.notify()
        case.primitive.release()
    else:
        case.primitive.release()
    handle = asyncio.get_running_loop()._ready[-1]
    case.nameless.add(type(handle))
    return handle, task


def finish(coroutine):
    with contextlib.suppress(StopIteration):
        coroutine.send(None)


def of_handle(fact):
    """The fact is asked about a handle in the loop's queue, and its task."""

    @of("handle")
    @functools.wraps(fact)
    def asked(case):
        async def looked():
            handle, task = await woken(case)
            try:
                return fact(handle, task)
            finally:
                task.cancel()
                await asyncio.wait([task])

        return looked()

    return asked


@of_handle
def handle_kinds(handle, task):
    return Each(
        {
            "isinstance": isinstance(handle, asyncio.Handle),
            "issubclass": issubclass(type(handle), asyncio.Handle),
            "name": type(handle).__name__,
            "repr": repr(handle).partition("(")[0],  # the result is an index of a barrier's
            "hash": hash(handle) == hash(handle),
            "equal": handle == handle,
            "weak": weakref.ref(handle)() is handle,
            "abcs": {cls.__name__ for cls in ABCS if isinstance(handle, cls)},
            "predicates": said_of(handle),
            "more": {name for name in dir(handle) if name[0] != "_"} - {*dir(asyncio.Handle)},
            "has a __dict__": hasattr(handle, "__dict__"),
            "copy": lambda: type(copy.copy(handle)).__name__,
            "pickle": result(pickle.dumps, handle),
        }
    )


@of_handle
def handle_attributes(handle, task):
    each = {}
    for name in sorted({*dir(asyncio.Handle), *asyncio.Handle.__slots__} - {*dir(object)}):
        if name not in ("__slots__", "__weakref__"):
            found = result(getattr, handle, name)
            each[name] = type(found)
            each[f"predicates of {name}"] = said_of(found)
    return Each(each)


@of_handle
def handle_values(handle, task):
    return Each(
        {
            "_loop": lambda: handle._loop is task.get_loop(),
            "_cancelled": lambda: handle._cancelled,
            "cancelled()": result(handle.cancelled),
            "_repr_info()": lambda: [info.partition("(")[0] for info in handle._repr_info()],
            "get_context()": lambda: handle.get_context() is handle._context is not None,
            "_context": lambda: type(handle._context),
            "the task's": result(lambda: getattr(handle._callback, "__self__", None) is task),
            "callback": lambda: type(handle._callback),
            "args": lambda: [type(argument) for argument in handle._args],
            "_source_traceback": lambda: handle._source_traceback,
            "_repr": lambda: handle._repr,
            "call": result(handle),
        }
    )


@of_handle
def handle_assigned(handle, task):
    def assigned(name):
        before = getattr(handle, name)
        setattr(handle, name, None)
        setattr(handle, name, before)
        return getattr(handle, name) is before

    names = sorted({*asyncio.Handle.__slots__} - {"__weakref__"})
    return Each({name: result(assigned, name) for name in [*names, "added"]})


@of("handle")
def handle_cancelled(case):
    """What a handle is after cancel(), and that it does nothing then."""

    async def looked():
        handle, task = await woken(case)
        callback, arguments = handle._callback, handle._args
        handle.cancel()
        handle.cancel()
        for _ in range(3):
            await asyncio.sleep(0)
        found = (
            task.done(),
            handle._callback,
            handle._args,
            handle.cancelled(),
            repr(handle).partition("(")[0],
        )
        asyncio.get_running_loop().call_soon(callback, *arguments)
        await asyncio.wait([task])
        return found

    return looked()


@of("handle")
def handle_run_by_hand(case):
    """What _run() does, which debuggers and loops call."""

    async def looked():
        handle, task = await woken(case)
        loop = asyncio.get_running_loop()
        loop._ready.remove(handle)
        for _ in range(3):
            await asyncio.sleep(0)
        before = task.done()
        loop.call_soon(lambda: returned.append(handle._run()))
        returned = []
        await asyncio.wait([task])
        return before, returned, task.result()

    return looked()


@of("handle")
def handle_in_debug_mode(case):
    async def looked():
        loop = asyncio.get_running_loop()
        loop.set_debug(True)
        try:
            handle, task = await woken(case)
            found = type(handle).__name__, type(handle._source_traceback), handle._repr is None
        finally:
            loop.set_debug(False)
        task.cancel()
        await asyncio.wait([task])
        return found

    return looked()


def main(arguments):
    from test_parity import judged

    for implementation in arguments or [name for name in IMPLEMENTATIONS if name != "asyncio"]:
        for name in NAMES:
            differs, stale = judged(implementation, name)
            for key, (theirs, found) in differs.items():
                print(implementation, *key, sep=" | ")
                print("    asyncio:", theirs)
                print("    differs:", found)
            for subject, fact, reason in stale:
                print(implementation, name, subject, fact, f"listed: {reason}", sep=" | ")


if __name__ == "__main__":
    main(sys.argv[1:])
