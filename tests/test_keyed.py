"""KeyedLock and KeyedSemaphore: one primitive for each key, and nothing left of it afterwards."""

import asyncio
import copy
import gc
import inspect
import pickle
import random
import re
import weakref
from collections.abc import Collection, Hashable, Mapping
from unittest import mock

import pytest
from conftest import OURS, needs_compiled, needs_refcounts
from helpers import by_hand, end, examples, length_of_chain, park

import aiofastlock


@pytest.fixture
def ours(our_name):
    return OURS[our_name]


@pytest.fixture
def locks(ours):
    return ours.KeyedLock()


@pytest.fixture
def semaphores(ours):
    return ours.KeyedSemaphore(2)


@pytest.fixture(params=("KeyedLock", "KeyedSemaphore"))
def keyed(request, ours):
    arguments = [2] if request.param == "KeyedSemaphore" else []
    return getattr(ours, request.param)(*arguments)


class Key:
    """Two keys of one name are equal. Code runs when they are compared."""

    def __init__(self, name, on_comparison=lambda: None, number=1):
        self.name, self.on_comparison, self.number = name, on_comparison, number

    def __hash__(self):
        return self.number

    def __eq__(self, other):
        self.on_comparison()
        return isinstance(other, Key) and self.name == other.name


def known(keyed):
    """How many primitives of the keyed there are, in use or kept."""
    gc.collect()
    return sum(
        keyed in gc.get_referents(thing) for thing in gc.get_objects() if hasattr(thing, "key")
    )


# ---- One primitive for each key ----


def test_a_key_has_one_primitive_as_long_as_it_is_kept(keyed):
    kept = keyed["a"]
    assert keyed["a"] is kept
    assert keyed["b"] is not kept
    assert keyed[str(b"a", "ascii")] is kept
    assert kept.key == "a"


def test_they_are_primitives(locks, semaphores, ours):
    assert isinstance(locks["a"], ours.Lock)
    assert isinstance(locks["a"], asyncio.Lock)
    assert isinstance(semaphores["a"], ours.BoundedSemaphore)
    assert isinstance(semaphores["a"], asyncio.BoundedSemaphore)


async def test_tasks_exclude_each_other_by_key(locks):
    inside = {}

    async def work(key):
        for _ in range(5):
            async with locks[key]:
                assert inside.get(key, 0) == 0
                inside[key] = 1
                await asyncio.sleep(0)
                inside[key] = 0

    await asyncio.gather(*(work(i % 7) for i in range(50)))
    assert list(locks) == []


async def test_a_semaphore_has_its_permits_for_each_key(semaphores):
    inside, most = dict.fromkeys(range(7), 0), dict.fromkeys(range(7), 0)

    async def work(key):
        async with semaphores[key]:
            inside[key] += 1
            most[key] = max(most[key], inside[key])
            await asyncio.sleep(0)
            inside[key] -= 1

    await asyncio.gather(*(work(i % 7) for i in range(50)))
    assert set(most.values()) == {2}
    assert list(semaphores) == []


def test_what_is_acquired_here_is_released_there(keyed):
    by_hand(keyed["a"].acquire())
    gc.collect()
    assert list(keyed) == ["a"]
    keyed["a"].release()
    assert list(keyed) == []
    with pytest.raises((RuntimeError, ValueError)):
        keyed["a"].release()


def test_a_lock_that_is_held_is_taken(locks):
    assert locks["a"].try_acquire()
    assert locks["a"].locked()
    assert not locks["a"].try_acquire()
    locks["a"].release()
    assert not locks["a"].locked()


async def test_who_waits_keeps_the_lock(locks):
    assert locks["a"].try_acquire()
    tasks = await park(locks["a"].acquire, 3)
    locks["a"].release()
    gc.collect()
    assert "a" in locks  # on its way to the first
    assert not locks["a"].try_acquire()
    for task in tasks:
        await task
        locks["a"].release()
    assert "a" not in locks


async def test_a_cancelled_waiter_leaves_nothing(locks):
    assert locks["a"].try_acquire()
    tasks = await park(locks["a"].acquire, 3)
    locks["a"].release()
    for task in tasks:
        task.cancel()
    await end(*tasks)
    assert len(locks) == 0


async def test_permits_that_are_on_their_way(semaphores):
    """A woken waiter takes its permit, also if another one was cancelled when it was woken."""
    for _ in range(2):
        assert semaphores["a"].try_acquire()
    tasks = await park(semaphores["a"].acquire, 3)
    semaphores["a"].release()
    semaphores["a"].release()
    tasks[0].cancel()
    await end(*tasks)
    assert semaphores["a"].locked()
    semaphores["a"].release()
    semaphores["a"].release()
    assert list(semaphores) == []


@needs_refcounts
async def test_a_cancelled_semaphore_leaves_nothing(semaphores):
    for _ in range(2):
        assert semaphores["a"].try_acquire()
    tasks = await park(semaphores["a"].acquire, 3)
    semaphores["a"].release()
    semaphores["a"].release()
    for task in tasks:
        task.cancel()
    await end(*tasks)
    assert len(semaphores) == 0


# ---- What the owner shows ----


def test_it_shows_the_keys_that_are_used(keyed):
    kept = keyed["kept"]
    by_hand(keyed["held"].acquire())
    assert len(keyed) == 1
    assert list(keyed) == ["held"]
    assert "held" in keyed
    assert "kept" not in keyed
    assert "other" not in keyed
    assert repr(keyed).endswith(" [keys:1]>")
    keyed["held"].release()
    assert len(keyed) == 0
    assert bool(keyed)  # `locks or KeyedLock()` does not make a second one
    assert not kept.locked()


def test_the_reprs(locks, semaphores):
    assert re.fullmatch(
        r"<aiofastlock\.KeyLock object at 0x\w+ \[unlocked, key:'a'\]>", repr(locks["a"])
    )
    assert re.fullmatch(
        r"<aiofastlock\.KeySemaphore object at 0x\w+ \[unlocked, value:2, key:\(1, 2\)\]>",
        repr(semaphores[1, 2]),
    )
    assert re.fullmatch(r"<aiofastlock\.KeyedLock object at 0x\w+ \[keys:0\]>", repr(locks))


def test_the_generic_alias(ours):
    assert ours.KeyedLock[str].__origin__ is ours.KeyedLock
    assert ours.KeyedSemaphore[str].__args__ == (str,)


def test_the_first_of_equal_keys_is_shown(locks):
    assert locks[1].try_acquire()
    assert not locks[1.0].try_acquire()
    assert [type(key) for key in locks] == [int]


def test_iteration_does_not_see_later_changes(locks):
    for key in range(10):
        assert locks[key].try_acquire()
    for key in locks:
        locks[key].release()
    assert list(locks) == []


def test_subclasses_weak_references_and_attributes(ours):
    class Locks(ours.KeyedLock):
        def __getitem__(self, key):
            return super().__getitem__(key.lower())

    locks = Locks()
    locks.attribute = 1
    assert locks["A"] is locks["a"]
    assert weakref.ref(locks)() is locks
    assert weakref.ref(locks["a"]) is not None


# ---- Bad input ----


def test_bad_arguments(ours):
    with pytest.raises(TypeError):
        ours.KeyedLock(1)
    with pytest.raises(TypeError):
        ours.KeyedSemaphore()
    for value in (0, -1):
        with pytest.raises(ValueError, match=r"KeyedSemaphore value must be >= 1"):
            ours.KeyedSemaphore(value)
    for value in (2.5, "2", None):
        with pytest.raises(TypeError, match="integer"):
            ours.KeyedSemaphore(value)
    semaphores = ours.KeyedSemaphore(2**100)
    assert semaphores["a"].try_acquire()


def test_a_primitive_of_a_key_is_not_made_without_it(keyed):
    with pytest.raises(TypeError):
        type(keyed["a"])(loop=None)
    assert len(keyed) == 0


def test_a_key_that_cannot_be_hashed(keyed):
    for use in (lambda: keyed[[]], lambda: [] in keyed):
        with pytest.raises(TypeError, match="unhashable"):
            use()


def test_a_semaphore_is_not_released_too_often(semaphores):
    with pytest.raises(ValueError, match="released too many times"):
        semaphores["a"].release()
    assert "a" not in semaphores


# ---- Keys whose code runs ----


def test_a_comparison_that_raises(keyed):
    fails = False

    def fail():
        if fails:
            raise ZeroDivisionError

    kept = keyed[Key("a", fail)]
    by_hand(kept.acquire())
    fails = True
    for use in (lambda: keyed[Key("a")], lambda: Key("b") in keyed):
        with pytest.raises(ZeroDivisionError):
            use()
    kept.release()
    del kept
    gc.collect()
    fails = False
    assert len(keyed) == 0
    assert keyed[Key("a")].try_acquire()


def test_a_hash_that_changes_or_raises_later(keyed):
    key = Key("a")
    by_hand(keyed[key].acquire())
    held = keyed[key]
    key.number = 2  # now it cannot be found
    assert keyed[key] is not held
    held.release()
    key.number = []
    del held
    assert len(keyed) == 0


def test_a_comparison_that_comes_back(keyed):
    """It takes another key, or the same one, while that is looked for."""
    found = []
    inside = False

    def come_back():
        nonlocal inside
        if not inside:
            inside = True
            found.extend(keyed[Key(name, number=1)] for name in ("a", "b", "c", "d"))
            found.extend(keyed[i] for i in range(100))  # the table grows
            inside = False

    first = keyed[Key("a", come_back)]
    assert keyed[Key("b")] is found[1]
    assert keyed[Key("a")] is first is found[0]


def test_a_comparison_that_drops_what_it_is_compared_with(keyed):
    kept = []

    def drop():
        kept.clear()
        gc.collect()

    for _ in range(10):
        kept.append(keyed[Key("a", drop)])
        new = keyed[Key("a")]
        assert keyed[Key("a")] is new
        del new
        kept.clear()
    assert len(keyed) == 0


def test_keys_with_equal_hashes(keyed):
    kept = [keyed[Key(i)] for i in range(50)]
    random.Random(1).shuffle(kept)
    while kept:
        kept.pop()
        for one in kept:
            assert keyed[Key(one.key.name)] is one


@needs_refcounts
def test_a_weak_reference_s_callback_finds_another_one(keyed):
    found = []
    first = keyed["a"]
    number = id(first)
    reference = weakref.ref(first, lambda _: found.append(keyed["a"]))
    del first
    (second,) = found
    assert reference() is None
    assert keyed["a"] is second
    assert len({number, id(second)}) == 2


@needs_refcounts
def test_a_finalizer_of_a_key_uses_the_locks(keyed):
    class Final:
        def __del__(self):
            seen.append(keyed["a"])

    seen = []
    kept = keyed[Final()]
    del kept
    gc.collect()
    assert seen
    assert keyed["a"] is seen[0]


@needs_refcounts
def test_a_primitive_whose_deallocation_is_put_off_is_not_found(our_name, keyed):
    """Python puts it off if the recursion would be too deep. Other code can run before."""

    class Dropped(int):
        """What comes after a primitive in a long chain. Being no container, it is not put off."""

        __slots__ = ()

        def __del__(self):
            one = keyed[int(self)]
            found.append((one, keyed[int(self)]))

    def make_and_drop():
        chain = []
        for number in range(length_of_chain(our_name)):
            one = keyed[number]
            one.before = chain
            chain = [Dropped(number), one]  # lists are cleared from their end
            del one

    found = []
    make_and_drop()
    assert len(found) == length_of_chain(our_name)
    assert all(one is other and not hasattr(one, "before") for one, other in found)
    found.clear()
    assert len(keyed) == 0


# ---- Nothing is left ----


@needs_refcounts
async def test_nothing_is_left_of_a_key(keyed):
    class Word(str):
        __slots__ = ("__weakref__",)

    key = Word("a")
    reference = weakref.ref(key)
    async with keyed[key]:
        del key
        assert reference() is not None
    assert reference() is None
    assert known(keyed) == 0


@needs_refcounts
async def test_many_keys_one_after_the_other(keyed):
    for i in range(1000):
        async with keyed[i]:
            assert list(keyed) == [i]
    assert known(keyed) == 0


def test_many_keys_at_a_time(keyed):
    for i in range(3000):
        by_hand(keyed[i].acquire())
    assert len(keyed) == 3000
    assert sorted(keyed) == list(range(3000))
    for i in random.Random(1).sample(range(3000), 3000):
        assert i in keyed
        keyed[i].release()
        assert i not in keyed
    assert len(keyed) == 0


def test_an_owner_is_collected_with_what_it_holds(ours):
    class Final:
        pass

    for make in (ours.KeyedLock, lambda: ours.KeyedSemaphore(1)):
        keyed = make()
        keys = [Final() for _ in range(100)]
        for key in keys:
            by_hand(keyed[key].acquire())
        references = [weakref.ref(keyed), *map(weakref.ref, keys)]
        del keyed, keys, key
        gc.collect()
        assert [reference() for reference in references] == [None] * 101


def test_an_owner_lives_as_long_as_one_of_its_primitives(ours):
    kept = ours.KeyedLock()["a"]
    gc.collect()
    assert kept.try_acquire()
    gc.collect()
    assert repr(kept).endswith("[locked, key:'a']>")
    kept.release()


def test_a_held_key_is_in_no_reachable_garbage(keyed):
    """The collector does not take a primitive that only itself refers to."""
    while keyed["a"].try_acquire():
        pass
    for _ in range(3):
        gc.collect()
    assert not keyed["a"].try_acquire()
    keyed["a"].release()


@needs_compiled
@pytest.mark.parametrize("name", ["KeyedLock", "KeyedSemaphore"])
def test_the_collector_sees_that_the_owner_owns_what_is_held(name):
    keyed = getattr(aiofastlock, name)(*[1] * (name == "KeyedSemaphore"))
    one = keyed["a"]
    assert keyed not in gc.get_referrers(one)
    assert one.try_acquire()
    assert keyed in gc.get_referrers(one)
    one.release()
    assert keyed not in gc.get_referrers(one)


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
def test_an_acquire_that_is_dropped(keyed):
    keyed["a"].acquire()
    gc.collect()
    assert len(keyed) == 0


def test_private_names_are_as_those_of_a_lock(locks, semaphores):
    lock = locks["a"]
    lock._locked = True
    del lock
    gc.collect()
    assert list(locks) == ["a"]
    locks["a"]._locked = False
    assert list(locks) == []
    semaphore = semaphores["a"]
    semaphore._value = 1
    del semaphore
    gc.collect()
    assert list(semaphores) == ["a"]
    semaphores["a"]._value = 2
    assert list(semaphores) == []
    assert semaphores._value == 2


@needs_compiled
@pytest.mark.parametrize(
    ("name", "field", "held", "free"),
    [("KeyedLock", "_locked", True, False), ("KeyedSemaphore", "_value", 0, 2)],
)
def test_a_private_name_is_mocked(name, field, held, free):
    """mock deletes it in the end, and sets it again if it is gone."""
    keyed = getattr(aiofastlock, name)(*[2] * (name == "KeyedSemaphore"))
    one = keyed["a"]
    with mock.patch.object(one, field, held):
        assert list(keyed) == ["a"]
        assert one.locked()
    assert getattr(one, field) == free
    assert list(keyed) == []


# ---- Copies ----


@pytest.fixture
def importable(ours, monkeypatch):
    for name in ("KeyedLock", "KeyedSemaphore"):
        monkeypatch.setattr(aiofastlock, name, getattr(ours, name))


@pytest.mark.usefixtures("importable")
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_idle_one_is_copied_without_its_keys(keyed, protocol):
    keyed.attribute = 1
    kept = keyed["a"]
    for other in (
        copy.copy(keyed),
        copy.deepcopy(keyed),
        pickle.loads(pickle.dumps(keyed, protocol)),
    ):
        assert type(other) is type(keyed)
        assert other.attribute == 1
        assert other["a"] is not kept
        while other["a"].try_acquire():
            pass
        assert kept.try_acquire()
        kept.release()


def test_one_in_use_is_not_copied(keyed):
    by_hand(keyed["a"].acquire())
    with pytest.raises(TypeError, match="keys that are held or waited for"):
        copy.copy(keyed)
    with pytest.raises(TypeError, match="it belongs to its key"):
        copy.copy(keyed["a"])
    with pytest.raises(TypeError, match="it belongs to its key"):
        pickle.dumps(keyed["a"])
    keyed["a"].release()


def test_a_loop_that_is_closed(locks):
    """As a Lock, one of a key can be used with another loop afterwards."""

    async def leave_a_waiter():
        assert locks["a"].try_acquire()
        waiter = locks["a"].acquire()
        waiter.send(None)
        return waiter

    waiter = asyncio.run(leave_a_waiter())
    locks["a"].release()
    assert locks["a"].try_acquire()
    locks["a"].release()
    waiter.close()


@needs_refcounts
def test_a_long_chain_of_keys_is_deallocated_without_recursion(our_name, keyed):
    key = None
    for _ in range(length_of_chain(our_name)):
        key = keyed[key]
    del key
    assert len(keyed) == 0


async def test_the_examples_of_the_page():
    page = examples("keys.md")
    await page.rename(1, "Anna")
    await page.begin("job")
    assert list(page.locks) == ["job"]
    page.end("job")
    await page.fetch("example.org", "/")
    assert list(page.connections) == []


def look_of(thing):
    """What a program finds by looking at an object's class."""
    cls = type(thing)
    public = [name for name in dir(cls) if not name.startswith("_")]
    special = ("__getitem__", "__len__", "__iter__", "__contains__", "__bool__", "__hash__")
    return {
        "name": f"{cls.__module__}.{cls.__qualname__}",
        "doc": inspect.getdoc(cls),
        "asyncio's": [base.__name__ for base in cls.__mro__ if base.__module__ == "asyncio.locks"],
        "public": public,
        "special": [hasattr(cls, name) for name in special],
        "coroutines": [inspect.iscoroutinefunction(getattr(thing, name)) for name in public],
        "abcs": [isinstance(thing, abc) for abc in (Collection, Hashable, Mapping)],
    }


@needs_compiled
@pytest.mark.parametrize("part", ["owner", "primitive"])
@pytest.mark.parametrize("name", ["KeyedLock", "KeyedSemaphore"])
def test_both_implementations_look_alike(name, part):
    looks = []
    for namespace in OURS.values():
        keyed = getattr(namespace, name)(*[2] if name == "KeyedSemaphore" else [])
        looks.append(look_of(keyed if part == "owner" else keyed["a"]))
    assert looks[0] == looks[1]
    assert "key" in looks[0]["public"] or part == "owner"
