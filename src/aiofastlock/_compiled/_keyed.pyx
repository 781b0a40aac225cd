"""KeyedLock and KeyedSemaphore: a primitive for each key, on the queue of _lock.pyx.

A `KeyedCore` has a table of its primitives by key, which owns none of them. What uses a primitive
owns it: the program that keeps it, a task that waits for it, and, while it is held, the primitive
itself. It leaves the table when it is deallocated. So nothing is left of a key that is not used.

Invariants:

- A primitive is in the table from its creation to its deallocation. It owns its key and its owner,
  so that neither dangles.
- `owns_itself` says whether a primitive has a reference to itself. That is so while the lock is
  locked, or the semaphore has fewer permits than at first. To the garbage collector, this reference
  is the owner's: a KeyedLock that nothing refers to is collected with the locks that it holds.
- Only hashing and comparing keys, and making a primitive, can run other code. Afterwards, whether
  the table has changed is checked before it is used.
"""

cimport cython
from cpython.object cimport PyObject, PyObject_Hash, PyTypeObject

from types import GenericAlias

from aiofastlock import _shared
from aiofastlock._compiled import _lock, _semaphore
from aiofastlock._pure import keyed as pure

from aiofastlock._compiled._lock cimport (
    LockCore,
    ParkingLot,
    State,
    Waiter,
    construct_without_init,
    finish_class,
    is_idle,
    keep_no_spares,
    keep_spares,
    load_int,
    loop_field,
    new_class,
    shared_int,
)
from aiofastlock._compiled._semaphore cimport BoundedSemaphoreCore

cdef extern from "_keyed.h":
    ctypedef struct Slot:
        PyObject* primitive
    ctypedef struct Table:
        Slot* slots
        size_t mask, used
        unsigned int changes
    int find_key(Table*, object key, Py_hash_t, PyObject** found) except -1
    int add_key(Table*, object primitive, object key, Py_hash_t) except -1
    void remove_key(Table*, PyObject* primitive, Py_hash_t) noexcept
    object try_to_own(PyObject* primitive)  # None if it is being deallocated
    void may_be_found(object primitive) noexcept
    void leave_lock "leave_table"(KeyLockCore) noexcept
    void leave_semaphore "leave_table"(KeySemaphoreCore) noexcept
    void lock_owns_itself "own_itself"(KeyLockCore, bint held) noexcept
    void semaphore_owns_itself "own_itself"(KeySemaphoreCore, bint held) noexcept
    ctypedef int (*visitproc)(PyObject*, void*) noexcept
    ctypedef int (*traverseproc)(PyObject*, visitproc, void*) noexcept
    ctypedef int (*inquiry)(PyObject*) noexcept
    traverseproc traverse_fields
    void set_gc(PyTypeObject*, traverseproc, inquiry) noexcept
    void leave_before_dealloc(PyTypeObject*, void (*)(PyObject*) noexcept) noexcept

cdef extern from *:
    """
    #define owner_field(lock) ((PyObject **)&(lock)->owner)
    #define key_field(lock) (&(lock)->_key)
    """
    PyObject** owner_field(KeyLockCore)
    PyObject** key_field(KeyLockCore)
    void PyMem_Free(void*) noexcept


@cython.no_gc_clear  # see clear()
cdef class KeyedCore:
    """The primitives of keys, by key: locks, unless a subclass makes others."""

    cdef object __weakref__
    cdef dict __dict__
    cdef Table table

    def __init__(self):
        pass  # it takes no argument

    def __dealloc__(self):
        PyMem_Free(self.table.slots)  # it is empty, since primitives own their owner

    cdef object make(self, object key, Py_hash_t hash):
        cdef KeyLockCore lock = <KeyLockCore> key_lock_class()
        lock.owner = self
        lock._key = key
        lock.hash = hash
        return lock

    cdef bint owns(self, PyObject* lock) noexcept:
        """Whether the lock owns itself, which the garbage collector sees as owned by this."""
        return load_int(&(<KeyLockCore> lock).owns_itself)

    cdef void disown(self, PyObject* lock) noexcept:
        lock_owns_itself(<KeyLockCore> lock, False)

    def __getitem__(self, key):
        cdef Py_hash_t hash = PyObject_Hash(key)
        with cython.critical_section(self):
            return get(self, key, hash)

    def __len__(self):
        return len(self._used())

    def __iter__(self):
        return iter([primitive.key for primitive in self._used()])

    def __contains__(self, key):
        cdef Py_hash_t hash = PyObject_Hash(key)
        with cython.critical_section(self):
            primitive = find(self, key, hash)
            return primitive is not None and is_used(self, primitive)

    def __bool__(self):
        return True

    @cython.critical_section
    def _used(self):
        """The primitives that are held or waited for."""
        cdef list primitives = []
        cdef size_t i = 0
        # A primitive that another thread has dropped is deallocated here, and the table may shrink.
        while self.table.used and i <= self.table.mask:
            if self.table.slots[i].primitive is not NULL:
                primitive = try_to_own(self.table.slots[i].primitive)
                if primitive is not None and is_used(self, primitive):
                    primitives.append(primitive)
            i += 1
        return primitives

    def __repr__(self):
        return pure.Keyed.__repr__(self)

    def __getstate__(self):
        return _shared.keyed_getstate(self)

    def __reduce_ex__(self, protocol):
        return object.__reduce_ex__(self, max(protocol, 2))

    def __setstate__(self, state):
        for name, value in state.items():
            setattr(self, name, value)

    @classmethod
    def __class_getitem__(cls, parameters):
        return GenericAlias(cls, parameters)


cdef inline object find(KeyedCore self, object key, Py_hash_t hash):
    """The primitive of a key, or None."""
    cdef PyObject* found
    find_key(&self.table, key, hash, &found)
    if found is NULL:
        return None
    primitive = try_to_own(found)
    if primitive is None:
        remove_key(&self.table, found, hash)
    return primitive


cdef object get(KeyedCore self, object key, Py_hash_t hash):
    cdef unsigned int changes
    while True:
        primitive = find(self, key, hash)
        if primitive is not None:
            return primitive
        changes = self.table.changes
        primitive = self.make(key, hash)
        if changes == self.table.changes:
            break
    may_be_found(primitive)
    add_key(&self.table, primitive, key, hash)
    return primitive


cdef inline bint is_used(KeyedCore self, object primitive) noexcept:
    return self.owns(<PyObject*> primitive) or not is_idle(<ParkingLot> primitive)


cdef int traverse(PyObject* self, visitproc visit, void* arg) noexcept:
    """tp_traverse. Reference counts must not change here."""
    cdef Table* table = &(<KeyedCore> self).table
    cdef PyObject* primitive
    cdef size_t i
    cdef int stop
    for i in range(table.mask + 1 if table.used else 0):
        primitive = table.slots[i].primitive
        if primitive is not NULL and (<KeyedCore> self).owns(primitive):
            stop = visit(primitive, arg)
            if stop:
                return stop
    return traverse_fields(self, visit, arg)


cdef int clear(PyObject* self) noexcept:
    """tp_clear. Primitives leave the table meanwhile: so pass it until all have gone."""
    cdef KeyedCore keyed = <KeyedCore> self
    cdef Table* table = &keyed.table
    cdef PyObject* primitive
    cdef size_t i
    cdef bint found = True
    while found:
        found = False
        i = 0
        while table.used and i <= table.mask:
            primitive = table.slots[i].primitive
            if primitive is not NULL and keyed.owns(primitive):
                found = True
                keyed.disown(primitive)
            i += 1
    return 0


# ---- Locks ----

@cython.no_gc_clear
cdef class KeyLockCore(LockCore):
    cdef KeyedCore owner
    cdef object _key
    cdef Py_hash_t hash
    cdef shared_int owns_itself

    def __init__(self, *args, **kwargs):
        pure.Lock.__init__(self, *args, **kwargs)

    def __dealloc__(self):
        leave_lock(self)

    @property
    def key(self):
        """The key that it is of."""
        return self._key

    @property
    def _owner(self):
        return self.owner

    # Each method that may lock or unlock the lock. In free-threaded builds, idle locks are no
    # exception. Only release_now() may raise when it has done so: if it cannot wake a waiter.

    cdef bint acquire_now(self, Waiter waiter) except -1:
        cdef bint acquired = LockCore.acquire_now(self, waiter)
        lock_owns_itself(self, self.held)
        return acquired

    cdef int release_now(self, Waiter waiter) except -1:
        try:
            return LockCore.release_now(self, waiter)
        finally:
            lock_owns_itself(self, self.held)

    cdef int acquire_woken(self, Waiter waiter) except -1:
        LockCore.acquire_woken(self, waiter)
        lock_owns_itself(self, self.held)
        return 0

    cdef bint acquire_idle(self) noexcept:
        return False

    cdef bint release_idle(self) noexcept:
        return False

    @property
    def _locked(self):
        return LockCore._locked.__get__(self)

    @_locked.setter
    def _locked(self, value):
        LockCore._locked.__set__(self, value)
        with cython.critical_section(self):
            lock_owns_itself(self, self.held)

    @_locked.deleter
    def _locked(self):
        LockCore._locked.__delete__(self)

    def __repr__(self):
        return _shared.repr_of_key(self, _lock.Lock.__repr__(self))

    def __reduce_ex__(self, protocol):
        _shared.refuse_copy_of_key(self)


cdef void leave_table_of_locks(PyObject* lock) noexcept:
    leave_lock(<KeyLockCore> lock)


# ---- Semaphores ----

@cython.no_gc_clear
cdef class KeySemaphoreCore(BoundedSemaphoreCore):
    cdef KeyedCore owner
    cdef object _key
    cdef Py_hash_t hash
    cdef shared_int owns_itself

    def __init__(self, *args, **kwargs):
        pure.BoundedSemaphore.__init__(self, *args, **kwargs)

    def __dealloc__(self):
        leave_semaphore(self)

    @property
    def key(self):
        """The key that it is of."""
        return self._key

    @property
    def _owner(self):
        return self.owner

    # Each method that may take or add a permit. One that raises when it has done so cannot wake a
    # waiter, which is still in the queue then. The last to leave wakes nobody.

    cdef bint acquire_now(self, Waiter waiter) except -1:
        cdef bint acquired = BoundedSemaphoreCore.acquire_now(self, waiter)
        own_itself_if_held(self)
        return acquired

    cdef int release_now(self, Waiter waiter) except -1:
        BoundedSemaphoreCore.release_now(self, waiter)
        own_itself_if_held(self)
        return 0

    cdef int acquire_woken(self, Waiter waiter) except -1:
        BoundedSemaphoreCore.acquire_woken(self, waiter)
        own_itself_if_held(self)
        return 0

    cdef int hand_off(self, State state) except -1:
        BoundedSemaphoreCore.hand_off(self, state)
        own_itself_if_held(self)
        return 0

    cdef bint acquire_idle(self) noexcept:
        return False

    cdef bint release_idle(self) noexcept:
        return False

    @property
    def _value(self):
        return BoundedSemaphoreCore._value.__get__(self)

    @_value.setter
    def _value(self, value):
        BoundedSemaphoreCore._value.__set__(self, value)
        with cython.critical_section(self):
            own_itself_if_held(self)

    @_value.deleter
    def _value(self):
        BoundedSemaphoreCore._value.__delete__(self)

    def __repr__(self):
        return _shared.repr_of_key(self, _semaphore.BoundedSemaphore.__repr__(self))

    def __reduce_ex__(self, protocol):
        _shared.refuse_copy_of_key(self)


cdef inline void own_itself_if_held(KeySemaphoreCore self) noexcept:
    semaphore_owns_itself(self, self.value != self.bound)


@cython.no_gc_clear
cdef class KeyedSemaphoreCore(KeyedCore):
    cdef Py_ssize_t value

    def __cinit__(self):
        self.value = 1

    def __init__(self, value):
        self._value = value

    @property
    def _value(self):
        return self.value

    @_value.setter
    def _value(self, value):
        self.value = _shared.permits_for_keys(value)

    def __getstate__(self):
        return {"_value": self.value, **_shared.keyed_getstate(self)}

    cdef object make(self, object key, Py_hash_t hash):
        cdef KeySemaphoreCore semaphore = <KeySemaphoreCore> key_semaphore_class()
        semaphore.value = semaphore.bound = self.value
        semaphore.owner = self
        semaphore._key = key
        semaphore.hash = hash
        return semaphore

    cdef bint owns(self, PyObject* semaphore) noexcept:
        return load_int(&(<KeySemaphoreCore> semaphore).owns_itself)

    cdef void disown(self, PyObject* semaphore) noexcept:
        semaphore_owns_itself(<KeySemaphoreCore> semaphore, False)


# ---- The classes ----

set_gc(<PyTypeObject*> KeyedCore, traverse, clear)
set_gc(<PyTypeObject*> KeyedSemaphoreCore, traverse, clear)


cdef type new_keyed_class(type core, type pure_class):
    return type(pure_class.__name__, (core,), {
        "__slots__": (),
        "__module__": "aiofastlock",
        "__doc__": pure_class.__doc__,
    })


KeyedLock = new_keyed_class(KeyedCore, pure.KeyedLock)
KeyedSemaphore = new_keyed_class(KeyedSemaphoreCore, pure.KeyedSemaphore)

cdef type key_lock_class = new_class(KeyLockCore, pure.KeyLock, (_lock.Lock,))
finish_class(key_lock_class)
construct_without_init(<PyTypeObject*> key_lock_class)
cdef KeyLockCore one = key_lock_class()
keep_spares(one, [loop_field(one), owner_field(one), key_field(one)], 3)
leave_before_dealloc(<PyTypeObject*> key_lock_class, leave_table_of_locks)

cdef type key_semaphore_class = new_class(
    KeySemaphoreCore, pure.KeySemaphore, (_semaphore.BoundedSemaphore,)
)
finish_class(key_semaphore_class)
construct_without_init(<PyTypeObject*> key_semaphore_class)


def make_in_full(bint always):
    """As _lock's."""
    keep_no_spares(always)
