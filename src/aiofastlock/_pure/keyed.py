"""KeyedLock and KeyedSemaphore: a primitive for each key."""

from __future__ import annotations

from _weakref import _remove_dead_weakref  # type: ignore[attr-defined]
from types import GenericAlias
from weakref import ref

from aiofastlock import _shared
from aiofastlock._pure.lock import Lock
from aiofastlock._pure.semaphore import BoundedSemaphore

TYPE_CHECKING = False  # as typing says it, which takes long to import
if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator
    from typing import Any, NoReturn, SupportsIndex


class Key:
    """A key whose hash is asked once: an entry is removed without running code of the key."""

    __slots__ = ("hash", "key")

    def __init__(self, key: Hashable) -> None:
        self.key: Any = key
        self.hash = hash(key)

    def __hash__(self) -> int:
        return self.hash

    def __eq__(self, other: object) -> Any:
        return self.key is other.key or self.key == other.key  # type: ignore[attr-defined]


@_shared.unannotated
class Keyed:
    """The primitives of keys, by key."""

    # Invariants: a key has at most one primitive that is alive. The table refers to it weakly, and
    # `_held` refers to it while it is held, since nothing else may. Who waits for it refers to it.
    # The table is changed by operations that nothing can come between.

    def __init__(self) -> None:
        self._table: dict[Key, ref[Any]] = {}
        self._held: set[Any] = set()

    if TYPE_CHECKING:  # subclasses have it

        def _new(self, key: Hashable) -> Any: ...

    def __getitem__(self, key: Hashable) -> Any:
        wrapped = Key(key)
        found = self._find(wrapped)
        if found is not None:
            return found
        table = self._table
        new = self._new(key)

        # When Python ends, globals may be gone first.
        def forget(_: Any, remove: Any = _remove_dead_weakref) -> None:
            remove(table, wrapped)

        reference = ref(new, forget)
        # Other code may have come first, in another thread or in a comparison.
        while (found := table.setdefault(wrapped, reference)()) is None:
            _remove_dead_weakref(table, wrapped)
        return found

    def _find(self, wrapped: Key) -> Any:
        reference = self._table.get(wrapped)
        return None if reference is None else reference()

    def _used(self) -> list[Any]:
        primitives = [reference() for reference in list(self._table.values())]
        return [one for one in primitives if one is not None and self._is_used(one)]

    def _is_used(self, primitive: Any) -> bool:
        return primitive in self._held or bool(primitive._waiters)

    def __len__(self) -> int:
        """Return the number of keys that are held or waited for."""
        return len(self._used())

    def __iter__(self) -> Iterator[Any]:
        """Return an iterator over the keys that are held or waited for now, in no special order."""
        return iter([primitive.key for primitive in self._used()])

    def __contains__(self, key: Hashable) -> bool:
        """Return whether a key is held or waited for."""
        found = self._find(Key(key))
        return found is not None and self._is_used(found)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"<{object.__repr__(self)[1:-1]} [keys:{len(self)}]>"

    def __getstate__(self) -> dict[str, Any]:
        return _shared.keyed_getstate(self)

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        return object.__reduce_ex__(self, max(protocol.__index__(), 2))

    def __setstate__(self, state: dict[str, Any]) -> None:
        Keyed.__init__(self)
        vars(self).update(state)

    def __class_getitem__(cls, parameters: Any) -> Any:
        return GenericAlias(cls, parameters)


@_shared.unannotated
class KeyedLock(Keyed):
    """A lock for each key. asyncio has no such class.

    `locks[key]` is the Lock of a key, which may be any hashable object: use it as `async with
    locks[key]:`. As long as a task holds the lock of a key or waits for it, or the program keeps
    it, the key has that one lock. After that, nothing is left of it.

    len(), iteration and `in` see the keys whose lock is held or waited for.
    """

    __module__ = "aiofastlock"

    def _new(self, key: Hashable) -> KeyLock:
        return KeyLock(self, key)

    def __getitem__(self, key: Hashable) -> Lock:
        """Return the lock of a key.

        TypeError is raised if the key cannot be hashed, and what comparing it with another key
        raises.
        """
        return super().__getitem__(key)  # type: ignore[no-any-return]


@_shared.unannotated
class KeyedSemaphore(Keyed):
    """A semaphore for each key. asyncio has no such class.

    `semaphores[key]` is the BoundedSemaphore of a key, which may be any hashable object, with
    `value` permits, an int of at least 1: use it as `async with semaphores[key]:`. As long as a
    task holds a permit of a key or waits for one, or the program keeps the semaphore, the key has
    that one semaphore. After that, nothing is left of it.

    TypeError is raised for a value that is not an int, ValueError for one below 1. len(), iteration
    and `in` see the keys of which permits are held or waited for.
    """

    __module__ = "aiofastlock"

    def __init__(self, value: int) -> None:
        super().__init__()
        self._value = _shared.permits_for_keys(value)

    def _new(self, key: Hashable) -> KeySemaphore:
        return KeySemaphore(self, key, self._value)

    def __getitem__(self, key: Hashable) -> BoundedSemaphore:
        """Return the semaphore of a key.

        TypeError is raised if the key cannot be hashed, and what comparing it with another key
        raises.
        """
        return super().__getitem__(key)  # type: ignore[no-any-return]


class OfKey:
    """What a primitive of a key has beside the primitive itself."""

    _owner: Keyed
    _key: Any

    @property
    def key(self) -> Any:
        """The key that it is of."""
        return self._key

    def _keep(self, held: bool) -> None:
        if held:
            self._owner._held.add(self)
        else:
            self._owner._held.discard(self)

    def __repr__(self) -> str:
        return _shared.repr_of_key(self, super().__repr__())

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        _shared.refuse_copy_of_key(self)


@_shared.unannotated
class KeyLock(OfKey, Lock):
    """The lock of a key of a KeyedLock."""

    __module__ = "aiofastlock"

    def __init__(self, owner: KeyedLock, key: Hashable) -> None:
        self._owner = owner
        self._key = key
        super().__init__()

    @property
    def _locked(self) -> Any:
        return self._is_locked

    @_locked.setter
    def _locked(self, locked: Any) -> None:
        self._is_locked = locked
        self._keep(locked)


@_shared.unannotated
class KeySemaphore(OfKey, BoundedSemaphore):
    """The semaphore of a key of a KeyedSemaphore."""

    __module__ = "aiofastlock"

    def __init__(self, owner: KeyedSemaphore, key: Hashable, value: int) -> None:
        self._owner = owner
        self._key = key
        super().__init__(value)

    @property
    def _value(self) -> Any:
        return self._permits

    @_value.setter
    def _value(self, permits: Any) -> None:
        self._permits = permits
        self._keep(permits != self._bound_value)
