"""The core of the compiled implementation: the queue of waiters, the awaitable, and Lock.

A `ParkingLot` is the base of every primitive: a queue of waiters, in order of arrival.
A `Waiter` is what `acquire()` returns, and the queue's node. The awaitable and the node are one
object, so that a wait allocates it and one future, and nothing else.

The queue is a doubly linked list whose pointers hold no references. The frame or task that awaits
a waiter owns it, and the waiter owns its primitive. A waiter links itself when it parks, and
unlinks itself when it is resumed, thrown into, closed or deallocated. The primitive owns the
futures of its waiters, and so keeps alive a task that nothing else refers to while it can still be
woken.

Invariants:

- A waiter is in the queue exactly while its state is PARKED, CANCELLED or WOKEN. It then has a
  primitive and a future and is alive, and so is the primitive: no link dangles.
- `parked` is the first PARKED waiter. The waiters before it are settled: WOKEN, or found to be
  CANCELLED. A settled waiter leaves when its task runs; nothing looks at it before that.
- Every step takes constant time, wherever in the queue the waiter is. (asyncio's deque.remove()
  makes cancelling N tasks take N * N.) Nothing recurses, however long the queue is.
- State is changed before a call that may run Python code: a loop's create_future() and
  is_closed(), a future's methods and destructor, the garbage collector. Such code finds a
  consistent queue. What it may have changed is checked again afterwards.
- No turn is lost. A woken waiter takes its turn; if it ends in any other way, hand_off() gives the
  turn to the next waiter.

A waiter parks on a real future of the loop, because tasks, debuggers and other libraries look at
it. The primitive is not notified when that future is cancelled. It finds out when the waiter is the
first parked one.

Considered and rejected: a queue of futures beside the awaitable (one more object per wait, and a
search or an index to unlink it); links that own (freeing a chain of waiters recurses, and a waiter
that is dropped while it waits goes unnoticed); a callback on the future that marks a cancelled
waiter (every wait pays for what only a cancelled one needs).
"""

cimport cython
from cpython.object cimport PyObject, PyTypeObject
from cpython.pyport cimport PY_SSIZE_T_MAX

from asyncio.exceptions import InvalidStateError
from collections import deque
import contextlib
from importlib import import_module
import sys
from threading import RLock
from types import ModuleType

from aiofastlock import _internals, _shared
from aiofastlock._pure import lock as pure

try:
    from _asyncio import Future
except ImportError:  # an asyncio without its C accelerator
    Future = None

cdef extern from "_lock.h":
    PyObject* take_spare_waiter() noexcept
    object owned(PyObject*)
    void set_primitive(Waiter, ParkingLot) noexcept
    void drop_primitive(Waiter) noexcept
    void drop_primitive_now(Waiter) noexcept
    void learn_marks(Waiter) noexcept
    void keep_spare_waiter(object)
    bint has_weak_references(Waiter)
    void stop_with_true "set_stop_iteration_true"() noexcept
    void set_stop_iteration_index(Py_ssize_t) noexcept
    int make_stops() except -1
    int finish "finish_awaitable"(PyTypeObject*, sendfunc, object) except -1
    ctypedef int (*visitproc)(PyObject*, void*) noexcept
    ctypedef int (*traverseproc)(PyObject*, visitproc, void*) noexcept
    traverseproc traverse_fields
    void set_traverse(PyTypeObject*, traverseproc) noexcept

cdef extern from "_method.h":
    bint is_plain(object, PyTypeObject*) noexcept
    bint is_served(object, PyTypeObject*, unsigned int mask) noexcept
    int add_method(PyTypeObject*, object function, fast_method, size_t arguments,
                   unsigned int mask, fast_method_with_argument) except -1
    int finish_public_class(PyTypeObject*) except -1
    int hide_vtable(PyTypeObject*) except -1
    int show_vtable(PyTypeObject*, object) except -1

cdef extern from "_guard.h":
    void may_be_looked_for(Waiter) noexcept
    void track_anew(Waiter) noexcept

cdef extern from "_loop.h":
    int learn_asyncio(object internals, object future, object deque, object error) except -1
    object running_loop()
    object new_future(object loop)
    int set_blocking(object future) except -1
    enum: RESULT_SET
    int set_result(object future, object result) noexcept
    int raise_if_failed(int outcome) except -1
    int call_soon(object loop, object callback, object argument) except -1

cdef extern from *:
    PyObject* Py_True
    PyObject* Py_None
    PyObject* Py_NewRef(PyObject*)
    int PyIter_Send(object, object, PyObject**) except -1
    void Py_INCREF(PyObject*) noexcept
    void Py_DECREF(PyObject*) noexcept
    PyObject* PyLong_FromSsize_t(Py_ssize_t) except NULL
    int PyErr_WarnFormat(object category, Py_ssize_t stack_level, const char*, PyObject*) except -1
    object PyUnicode_FromFormat(const char*, object, object)
    void Py_FatalError(const char*) noexcept

cdef type lock_class

make_stops()
learn_asyncio(_internals, Future, deque, InvalidStateError)

# The __qualname__ of an awaitable, by Call: it can outlive its primitive.
cdef tuple QUALNAMES = (
    "Lock.acquire",
    "Semaphore.acquire",
    "Event.wait",
    "Condition.wait",
    "ReaderLock.acquire",
    "WriterLock.acquire",
    "Barrier.wait",
    "Barrier.__aenter__",
    "ContextManager.__aenter__",
    "ContextManager.__aenter__",
    "ContextManager.__aenter__",
    "Barrier.reset",
    "Barrier.abort",
    "Barrier.__aexit__",
    "ContextManager.__aexit__",
    "ContextManager.__aexit__",
    "ContextManager.__aexit__",
)


cdef inline object inline_new_waiter(ParkingLot primitive, Call call):
    cdef PyObject* waiter = take_spare_waiter()
    if waiter is NULL:
        return allocate_waiter(primitive, call)
    if has_weak_references(<Waiter> waiter):  # they were made after it was kept
        Py_DECREF(waiter)
        return allocate_waiter(primitive, call)
    set_primitive(<Waiter> waiter, primitive)
    (<Waiter> waiter).call = call
    store_int(&(<Waiter> waiter).state, CREATED)
    return owned(waiter)


cdef object allocate_waiter(ParkingLot primitive, Call call):
    cdef Waiter waiter
    try:
        waiter = Waiter.__new__(Waiter)
    except MemoryError:
        if call >= EXIT:  # nothing else would release the primitive
            primitive.release_now(None)
        raise
    set_primitive(waiter, primitive)
    waiter.shown[3] = NO_FRAME
    waiter.call = call
    store_int(&waiter.state, CREATED)
    return waiter


cdef object new_waiter(ParkingLot primitive, Call call):  # for the other modules
    return inline_new_waiter(primitive, call)


cdef void set_recorder(Recorder* new) noexcept:
    global recorder
    recorder = new


# ---- The queue ----

@cython.no_gc_clear  # Cython's tp_clear would set __dict__ to None; the dict itself breaks cycles
cdef class ParkingLot:
    """A queue of waiters. In four methods, each primitive says what they wait for."""

    def __cinit__(self):
        drop_attributes(self)
        if recorder is not NULL:
            recorder.made(self)

    def __dealloc__(self):
        if recorder is not NULL:
            recorder.deallocated(<PyObject*> self)
        drop_attributes(self)

    cdef bint acquire_now(self, Waiter waiter) except -1:  # pragma: no cover - subclasses have it
        """Acquire what is awaited, if that needs no wait; return whether it was acquired."""
        raise NotImplementedError

    cdef int release_now(self, Waiter waiter) except -1:  # pragma: no cover - subclasses have it
        """Do what an await does that never waits, such as the end of `async with`."""
        raise NotImplementedError

    cdef bint acquire_idle(self) noexcept:
        """What acquire_now() does, without the critical section, if nobody waits.

        Only free-threaded builds call this, and then acquire_now() unless it returns True.
        """
        return False

    cdef bint release_idle(self) noexcept:
        """What release_now(None) does, in the same way."""
        return False

    cdef int acquire_woken(self, Waiter waiter) except -1:
        """Acquire for a woken waiter, which has left the queue."""
        raise NotImplementedError

    cdef int hand_off(self, State state) except -1:
        """A waiter in `state` has left the queue without its turn: give that to the next one."""
        raise NotImplementedError

    cdef void take_back(self) noexcept:
        """A waiter was not woken after all, and has not handed on its turn: there is none."""

    cdef bint settle_if_done(self, PyObject* parked) except -1:
        """Settle a parked waiter if its future is done already; return whether it is."""
        cdef Waiter waiter = alive(parked)
        if waiter is None:  # another thread is deallocating it
            settle(self, parked, CANCELLED)
            return True
        future = waiter.future
        cdef bint done = future.done()
        cdef bint live = done and has_result(future)
        if done and waiter.future is future:  # the calls may have run Python code
            settle(self, parked, WOKEN if live else CANCELLED)
        return done

    cdef bint any_live(self) except -1:
        """Whether a waiter in the queue can still have a turn. Amortised O(1)."""
        while not self.woken and self.parked is not NULL:
            if not self.settle_if_done(self.parked):
                break
        return self.woken > 0 or self.parked is not NULL

    cdef bint wake(self, PyObject* parked, object result) except -1:
        """Wake a parked waiter unless it is cancelled; return whether it was woken."""
        cdef Waiter waiter = alive(parked)
        if waiter is None:  # another thread is deallocating it
            settle(self, parked, CANCELLED)
            self.take_back()
            return False
        future = waiter.future
        settle(self, parked, WOKEN)
        cdef int outcome = set_result(future, result)
        if outcome == RESULT_SET:
            return True
        return not_set(self, waiter, future, outcome)

    @property
    def _waiters(self):
        waiters = own_or(self, "_waiters", self)
        return _shared.View(self) if waiters is self else waiters

    @_waiters.setter
    def _waiters(self, waiters):
        if type(waiters) is pure.Queue and not waiters:  # an empty queue is there already
            unset_own(self, "_waiters")
        else:
            set_own(self, "_waiters", waiters)

    @_waiters.deleter
    def _waiters(self):
        delete_own(self, "_waiters")

    @property
    @cython.critical_section
    def _loop(self):
        return self.loop

    @_loop.setter
    @cython.critical_section
    def _loop(self, loop):
        _replaced = self.loop  # freed after the change, since its destructor may run code
        self.loop = loop

    @_loop.deleter
    @cython.critical_section
    def _loop(self):
        _replaced = self.loop
        self.loop = None

    @property
    @cython.critical_section
    def _waiting(self):
        return self.count

    @cython.critical_section
    def _futures(self, Py_ssize_t most=PY_SSIZE_T_MAX):
        """The futures of the waiters, or of the first of them."""
        cdef list futures = []
        cdef PyObject* waiter = self.head
        while len(futures) < self.count and len(futures) < most:
            futures.append((<Waiter> waiter).future)
            waiter = (<Waiter> waiter).next
        return futures

    @cython.critical_section
    def _enqueue(self, future, bint first):
        cdef Waiter waiter = new_waiter(self, LOCK_ACQUIRE)
        enqueue(waiter, future)
        if first:
            self.parked = <PyObject*> waiter
            store_pointer(&self.head, self.parked)
        return waiter

    @cython.critical_section
    def _dequeue(self, future, Waiter waiter):
        """Remove a future's waiter from the queue; return whether it was there."""
        cdef PyObject* node = self.head
        cdef unsigned int count = self.count
        while waiter is None and count > 0:
            if (<Waiter> node).future is future:
                waiter = alive(node)
            node = (<Waiter> node).next
            count -= 1
        if waiter is None or waiter.state < PARKED or waiter.primitive is not self:
            return False
        leave(waiter)
        return True

    @cython.critical_section
    def _unbind_if_closed(self):
        return unbind_if_closed(self)

    def __reduce_ex__(self, protocol):
        return _shared.with_fields(self, object.__reduce_ex__(self, max(protocol, 2)))

    def __setstate__(self, state):
        _shared.setstate(self, state)


# ---- Attributes that C has no field for, or the field of which is overridden ----

# The value of an attribute that was deleted: mock deletes what it has patched, and looks whether it
# has to set it again.
cdef object DELETED = object()


cdef object own_or(ParkingLot primitive, str name, object value):
    """The attribute that hides a field, or the value of that."""
    if has_attributes(primitive):
        value = attributes_of(primitive).get(name, value)
        if value is DELETED:
            raise AttributeError(
                f"{type(primitive).__name__!r} object has no attribute {name!r}",
                name=name, obj=primitive,
            )
    return value


cdef int delete_own(ParkingLot primitive, str name) except -1:
    own_or(primitive, name, None)  # raises if it is deleted already
    return set_own(primitive, name, DELETED)


cdef int set_own(ParkingLot primitive, str name, object value) except -1:
    vars(primitive)[name] = value
    return 0


cdef int unset_own(ParkingLot primitive, str name) except -1:
    if has_attributes(primitive):
        attributes_of(primitive).pop(name, None)
    return 0


# ---- Public classes: subclasses of what C has the fields of, and of asyncio's classes ----

cdef type new_class(type core, type pure_class, tuple bases):
    """The public class: its methods are added next, and finish_class() comes last."""
    return type(pure_class.__name__, (core, *bases), {
        "__slots__": (),
        "__module__": "aiofastlock",
        "__doc__": pure_class.__doc__,
        "__getstate__": pure_class.__getstate__,
    })


cdef int method(
    type cls, type pure_class, str name, fast_method fast, unsigned int mask
) except -1:
    """Add a method that takes no argument."""
    return method_with_argument(cls, pure_class, name, fast, NULL, mask)


cdef int method_with_argument(
    type cls, type pure_class, str name, fast_method fast,
    fast_method_with_argument with_argument, unsigned int mask
) except -1:
    """Add a method that takes one argument, which may have a default."""
    function = _shared.copy_for(cls, getattr(pure_class, name))
    _shared.FUNCTIONS[function.__qualname__] = function
    return add_method(<PyTypeObject*> cls, function, fast, 1, mask, with_argument)


cdef int exit_method(type cls, type pure_class, fast_method fast, unsigned int mask) except -1:
    """Add __aexit__(), which ignores its three arguments."""
    _shared.FUNCTIONS[pure_class.__aexit__.__qualname__] = pure_class.__aexit__
    return add_method(<PyTypeObject*> cls, pure_class.__aexit__, fast, 4, mask, NULL)


cdef bint serves(object self, type cls, unsigned int mask) noexcept:
    return is_served(self, <PyTypeObject*> cls, mask)


cdef int finish_class(type cls) except -1:
    return finish_public_class(<PyTypeObject*> cls)


# ---- The links ----

cdef inline void append(ParkingLot primitive, Waiter waiter) noexcept:
    cdef PyObject* self = <PyObject*> waiter
    if primitive.head is NULL:
        waiter.prev = waiter.next = self
        store_pointer(&primitive.head, self)
    else:
        waiter.next = primitive.head
        waiter.prev = (<Waiter> primitive.head).prev
        (<Waiter> waiter.prev).next = self
        (<Waiter> waiter.next).prev = self
    if primitive.parked is NULL:
        primitive.parked = self
    primitive.count += 1
    Py_INCREF(<PyObject*> waiter.future)


cdef inline void skip(ParkingLot primitive, PyObject* waiter) noexcept:
    """See that `parked` is not this waiter, but the next parked one."""
    cdef PyObject* following = (<Waiter> waiter).next
    if primitive.parked is waiter:
        while following is not primitive.head and (<Waiter> following).state != PARKED:
            following = (<Waiter> following).next
        primitive.parked = NULL if following is primitive.head else following


cdef inline void settle(ParkingLot primitive, PyObject* waiter, State state) noexcept:
    if (<Waiter> waiter).state == PARKED:
        skip(primitive, waiter)
        (<Waiter> waiter).state = state
        primitive.woken += state == WOKEN
    if AIOFASTLOCK_DEBUG:
        check(primitive)


cdef bint not_set(ParkingLot primitive, Waiter waiter, object future, int outcome) except -1:
    """set_result() raised, or the future was done already."""
    try:
        raise_if_failed(outcome)
    except BaseException:  # here and not in wake(), where `try` would cost every wake-up
        if waiter.future is future and waiter.state == WOKEN:
            unwake(primitive, waiter)
        raise
    cancel_if_no_result(primitive, waiter, future)
    return False


cdef int unwake(ParkingLot primitive, Waiter waiter) except -1:
    """set_result() raised: park the waiter again, unless its future is done nevertheless."""
    waiter.state = PARKED
    primitive.woken -= 1
    primitive.parked = <PyObject*> waiter
    try:
        primitive.settle_if_done(<PyObject*> waiter)  # may raise RecursionError too
    finally:
        if waiter.state != WOKEN:  # if it has left, it was parked
            primitive.take_back()
    return 0


cdef int cancel_if_no_result(ParkingLot primitive, Waiter waiter, object future) except -1:
    """The future was done before it was woken: mark the waiter if it is not to continue."""
    cdef bint live = has_result(future)
    if waiter.future is future and waiter.state == WOKEN:
        primitive.take_back()
        if not live:
            waiter.state = CANCELLED
            primitive.woken -= 1
    return 0


cdef bint has_result(object future) except -1:
    """Whether a done future has a result: it is neither cancelled nor failed."""
    return not future.cancelled() and future.exception() is None


cdef inline void unlink(ParkingLot primitive, PyObject* waiter) noexcept:
    cdef PyObject* prev = (<Waiter> waiter).prev
    cdef PyObject* next = (<Waiter> waiter).next
    skip(primitive, waiter)
    if next is waiter:
        store_pointer(&primitive.head, NULL)
    else:
        (<Waiter> prev).next = next
        (<Waiter> next).prev = prev
        if primitive.head is waiter:
            store_pointer(&primitive.head, next)
    primitive.count -= 1
    primitive.woken -= (<Waiter> waiter).state == WOKEN
    Py_DECREF(<PyObject*> (<Waiter> waiter).future)  # the waiter still owns it
    if AIOFASTLOCK_DEBUG:
        check(primitive)


cdef int traverse_primitive(PyObject* primitive, visitproc visit, void* arg) noexcept:
    """tp_traverse. Reference counts must not change here."""
    cdef PyObject* waiter = (<ParkingLot> primitive).head
    cdef int stop
    while waiter is not NULL:
        stop = visit(<PyObject*> (<Waiter> waiter).future, arg)
        if stop:
            return stop
        waiter = (<Waiter> waiter).next
        if waiter is (<ParkingLot> primitive).head:
            break
    return traverse_fields(primitive, visit, arg)


set_traverse(<PyTypeObject*> ParkingLot, traverse_primitive)


cdef void check(ParkingLot primitive) noexcept:
    """Abort unless links, counts and states agree. A long queue is checked one time in 256."""
    cdef PyObject* waiter = primitive.head
    cdef PyObject* parked = NULL
    cdef unsigned int count = 0, woken = 0
    if primitive.count > 256 and primitive.count % 256:
        return
    while waiter is not NULL:
        count += 1
        woken += (<Waiter> waiter).state == WOKEN
        if parked is NULL and (<Waiter> waiter).state == PARKED:
            parked = waiter
        if (
            (<Waiter> waiter).state < PARKED
            or (<Waiter> waiter).primitive is not primitive
            or (<Waiter> waiter).future is None
            or (<Waiter> (<Waiter> waiter).next).prev is not waiter
            or count > primitive.count
        ):  # pragma: no cover - it aborts
            Py_FatalError("aiofastlock: the links of a queue are broken")
        waiter = (<Waiter> waiter).next
        if waiter is primitive.head:
            break
    if count != primitive.count or woken != primitive.woken or parked is not primitive.parked:
        Py_FatalError("aiofastlock: wrong counts of a queue")  # pragma: no cover - it aborts


cdef int bind(ParkingLot primitive, object loop) except -1:
    """Bind a primitive to the running loop, or raise if another one is bound."""
    if loop is None:
        raise RuntimeError("no running event loop")
    if primitive.loop is not None and not is_closed(primitive.loop):
        raise RuntimeError(f"{primitive!r} is bound to a different event loop")
    bound = primitive.loop  # freed after the change, as above
    primitive.loop = loop
    if bound is not None and bound is not loop:
        discard_all_waiters(primitive)
    return 0


cdef bint unbind_if_closed(ParkingLot primitive) except -1:
    """Empty the queue if the loop is closed; return whether waiters were left on it."""
    if is_idle(primitive) and not has_attributes(primitive):
        return False
    if not is_closed(primitive.loop) or not primitive._waiters:
        return False
    discard_all_waiters(primitive)
    return True


cdef int discard_all_waiters(ParkingLot primitive) except -1:
    discard_waiters(primitive)
    if has_attributes(primitive):
        attributes_of(primitive).pop("_appended", None)
        _shared.empty(attributes_of(primitive).get("_waiters") or ())
    return 0


cdef int call_soon_with(ParkingLot primitive, object callback) except -1:
    """Have the loop call callback(primitive) in its next iteration."""
    return call_soon(primitive.loop, callback, primitive)


cdef int discard_waiters(ParkingLot primitive) except -1:
    """Empty the queue: a closed loop cannot wake its waiters."""
    cdef list futures = []  # freed last: their destructors may run code that parks others
    cdef list states = []
    cdef PyObject* head
    cdef Waiter waiter
    while primitive.head is not NULL:
        head = primitive.head
        futures.append((<Waiter> head).future)
        states.append((<Waiter> head).state)
        if states[-1] == PARKED and _shared.was_woken(futures[-1]):  # by a subclass or a patch
            states[-1] = WOKEN
        if primitive.head is not head:  # that has run other code
            continue
        waiter = alive(head)
        if waiter is not None:
            leave(waiter)
        else:  # another thread is deallocating it
            unlink(primitive, head)
            (<Waiter> head).state = FINISHED
    for state in states:
        primitive.hand_off(state)
    return 0


cdef bint is_closed(object loop) except -1:
    try:
        return loop is not None and loop.is_closed()
    except AttributeError:  # the garbage collector has cleared the loop
        return True


# ---- The awaitable ----

@cython.final
@cython.freelist(32)
@cython.no_gc_clear  # it needs its primitive to unlink itself; the primitive breaks any cycle
cdef class Waiter:
    """The awaitable that a primitive's methods return: a coroutine in all but its type."""

    def __await__(self):
        if state_of(self) >= PARKED:
            raise RuntimeError("coroutine is being awaited already")
        return self

    # An await ends most cheaply with None: tp_iternext returns NULL and sets no exception. Cython
    # compiles the raise below to that as long as it is outside of any try or with statement.
    def __next__(self):
        if inline_step(self) == NEXT:
            return future_of_waiter(self)
        if self.call < FIRST_TO_RETURN_NONE:
            if self.call < FIRST_TO_RETURN_INDEX:
                stop_with_true()
            else:
                set_stop_iteration_index(self.index)
        raise StopIteration

    # Not through __next__: a StopIteration that Python code gets cannot be reused.
    def send(self, value):
        """Resume, as a coroutine's send() does."""
        return send_to(self, value)

    def throw(self, typ, val=None, tb=None):
        """Raise an exception where this waits, as a coroutine's throw() does."""
        if not isinstance(typ, BaseException) or val is not None or tb is not None:
            typ = _shared.exception_to_throw(typ, val, tb)
        if claim(self):
            drop_primitive_now(self)
        else:
            in_section_of_queue(settle_if_woken_by_others, self)
            refuse_if_finished(in_section_of_queue(abandon_in_queue, self))
        raise _shared.as_raised(typ)

    def close(self):
        """Stop waiting, as a coroutine's close() does."""
        abandon(self)

    # For _shared.COROUTINE_ATTRIBUTES:

    @property
    def _qualname(self):
        return QUALNAMES[self.call]

    @property
    def _stage(self):
        cdef State state = state_of(self)
        return "suspended" if state >= PARKED else "created" if state == CREATED else "closed"

    @property
    def _awaited(self):
        return future_of_waiter(self)

    @property
    def _waiting_for(self):
        """For aiofastlock.watch: the primitive, and since when by the recorder's clock."""
        primitive = queue_of_waiter(self)
        return None if primitive is None else (primitive, self.since)

    @property
    def _writes(self):
        """For aiofastlock.watch: whether it waits to write, at an RWLock."""
        return self.call == WRITER_ACQUIRE or self.call == WRITER_ENTER

    def __repr__(self):
        return PyUnicode_FromFormat("<coroutine object %S at %p>", self.__qualname__, self)

    def __dealloc__(self):
        cdef State state = state_of(self)
        if state == CREATED:
            qualname = QUALNAMES[self.call]
            PyErr_WarnFormat(RuntimeWarning, 1, "coroutine '%U' was never awaited",
                             <PyObject*> qualname)
        elif state != FINISHED:
            abandon(self)


cdef inline int inline_step(Waiter self) except -1:
    """Run until there is a future to wait for (self.future), or the await is over."""
    if not claim(self):
        return refuse_if_finished(in_section_of_queue(resume, self))
    if not FREE_THREADED or not begin_idle(self):
        if in_section_of_claimed(begin, self) == NEXT:
            return NEXT
    drop_primitive_now(self)
    if not has_weak_references(self):
        keep_spare_waiter(self)
    return RETURN


cdef int step(Waiter self) except -1:  # for the other modules, off the fast path
    return inline_step(self)


cdef inline bint begin_idle(Waiter self) noexcept:
    """The whole await, without the critical section, if nobody waits for the primitive."""
    if self.call >= FIRST_TO_RELEASE:
        return self.primitive.release_idle()
    return self.primitive.acquire_idle()


cdef inline int begin(Waiter self) except -1:
    if self.call >= FIRST_TO_RELEASE:
        self.primitive.release_now(self)
    elif not self.primitive.acquire_now(self):
        return park(self)
    return RETURN


cdef int refuse_if_finished(int outcome) except -1:
    if outcome == NOT_QUEUED:
        raise RuntimeError("cannot reuse already awaited coroutine")
    return outcome


cdef int park(Waiter self) except -1:
    cdef ParkingLot primitive = self.primitive
    future = future_of(primitive)
    set_blocking(future)
    if recorder is not NULL:
        recorder.parking(self)
    # Check again: the reason to wait may have gone with a closed loop, or while other code ran to
    # create the future (the garbage collector can run any). Then nothing would wake this waiter.
    if primitive.acquire_now(self):
        return RETURN
    return enqueue(self, future)


cdef int enqueue(Waiter self, object future) noexcept:
    """Append a waiter to its primitive's queue, waiting on a future that is yielded next."""
    cdef ParkingLot primitive = self.primitive
    self.future = future
    may_be_looked_for(self)
    track_anew(self)
    self.state = PARKED
    self.since = 0 if recorder is NULL else recorder.now()
    append(primitive, self)
    if AIOFASTLOCK_DEBUG:
        check(primitive)
    return NEXT


cdef inline object loop_of(ParkingLot primitive):
    """The running loop, to which the first waiter binds the primitive."""
    loop = running_loop()
    if primitive.loop is not loop or loop is None:
        bind(primitive, loop)
    return loop


cdef object loop_in_section(ParkingLot primitive):  # for the other modules
    return loop_of(primitive)


cdef inline object future_of(ParkingLot primitive):
    return new_future(loop_of(primitive))


cdef object future_in_section(ParkingLot primitive):
    """As future_to_yield(), for who is in the critical section. On Python 3.13, to enter one again
    that a thread is in already takes as long as a wait for another thread.
    """
    future = future_of(primitive)
    set_blocking(future)
    return future


cdef object future_to_yield(ParkingLot primitive):
    with cython.critical_section(primitive):
        future = future_of(primitive)
    set_blocking(future)
    return future


cdef int resume(Waiter self) except -1:
    cdef ParkingLot primitive = self.primitive
    future = self.future  # freed after the step, since its destructor may run code
    if (self.state == PARKED or self.state == CANCELLED) and not is_done(self, future):
        set_blocking(future)  # resumed though nothing has happened
        return NEXT
    if self.state == FINISHED:  # by that
        return NOT_QUEUED
    leave(self)
    if has_attributes(primitive):
        leave_replacing(primitive, "_waiters", future)
    primitive.acquire_woken(self)
    if not has_weak_references(self):
        keep_spare_waiter(self)
    return RETURN


cdef bint is_done(Waiter self, object future) except -1:
    """Whether a future that wake() has not set is done nevertheless; raise if it has no result."""
    try:
        if not future.done():
            if future._asyncio_future_blocking:
                raise RuntimeError("await wasn't used with future")
            return False
        future.result()
    except BaseException:
        if self.state >= PARKED:  # the calls may have run Python code
            abandon_in_queue(self)
        raise
    return True


cdef int settle_if_woken_by_others(Waiter self) except -1:
    """A subclass or a patch can set the future itself; then a semaphore's permit is taken back."""
    if self.state == PARKED and (self.call <= SEMAPHORE_ACQUIRE or self.call == ENTER):
        self.primitive.settle_if_done(<PyObject*> self)
    return 0


cdef int abandon(Waiter self) except -1:
    """Finish without the turn."""
    if claim(self):
        drop_primitive_now(self)
    else:
        in_section_of_queue(abandon_in_queue, self)
    return 0


cdef int abandon_in_queue(Waiter self) except -1:
    cdef ParkingLot primitive = self.primitive
    cdef State state = <State> self.state
    future = self.future  # as in resume()
    leave(self)
    if has_attributes(primitive):
        leave_replacing(primitive, "_waiters", future)
    primitive.hand_off(state)
    return 0


cdef int leave_replacing(ParkingLot primitive, str name, object future) except -1:
    """Leave a queue that a program has set in place of this one."""
    replacing = attributes_of(primitive).get(name)
    if replacing:
        with contextlib.suppress(ValueError):
            replacing.remove(future)
    return 0


cdef void leave(Waiter self) noexcept:
    unlink(self.primitive, <PyObject*> self)
    self.state = FINISHED
    if self.since != 0 and recorder is not NULL:
        recorder.waited(self.primitive, self.since)
    self.future = None  # first: the primitive's critical section guards it
    drop_primitive(self)


cdef int waiter_send(Waiter self, object value, PyObject** result) except -1:
    """am_send: called by tasks, and by `await` on Python 3.11 and 3.15."""
    result[0] = NULL  # also if it raises
    if value is not None and state_of(self) == CREATED:
        raise TypeError("can't send non-None value to a just-started coroutine")
    if inline_step(self) == NEXT:
        future = future_of_waiter(self)
        result[0] = Py_NewRef(<PyObject*> future)
        return NEXT
    if self.call >= FIRST_TO_RETURN_NONE:
        result[0] = Py_NewRef(Py_None)
    elif self.call < FIRST_TO_RETURN_INDEX:
        result[0] = Py_NewRef(Py_True)
    else:
        result[0] = PyLong_FromSsize_t(self.index)
    return RETURN


cdef void set_stop_iteration_true() noexcept:  # for the other modules
    stop_with_true()


cdef int finish_awaitable(type cls, sendfunc send) except -1:
    return finish(<PyTypeObject*> cls, send, _shared.COROUTINE_ATTRIBUTES)


finish_awaitable(Waiter, <sendfunc> waiter_send)
learn_marks(Waiter.__new__(Waiter))


cdef object send_to(object awaitable, object value):
    """send() through am_send."""
    cdef PyObject* result
    cdef int outcome = PyIter_Send(awaitable, value, &result)
    sent = owned(result)
    if outcome == NEXT:
        return sent
    raise StopIteration if sent is None else StopIteration(sent)


# ---- Lock ----

cdef class ContextManager(ParkingLot):
    """The base of what `async with` acquires and releases."""

    @property
    def _waiters(self):
        """The queue, or None before the first wait."""
        waiters = own_or(self, "_waiters", self)
        if waiters is not self:
            return waiters
        with cython.critical_section(self):
            used = self.count > 0 or self.loop is not None
        return _shared.View(self) if used else None

    @_waiters.setter
    def _waiters(self, waiters):
        if waiters is None:
            unset_own(self, "_waiters")
        else:
            set_own(self, "_waiters", waiters)

    @_waiters.deleter
    def _waiters(self):
        delete_own(self, "_waiters")


cdef object enter(object self):
    return inline_new_waiter(<ParkingLot> self, ENTER)


cdef object exit(object self):
    return inline_new_waiter(<ParkingLot> self, EXIT)


# For acquire_now(), which sees in it that no `async with` acquires.
cdef Waiter no_waiter = Waiter.__new__(Waiter)


cdef object try_acquire(object self):
    if FREE_THREADED and (<ParkingLot> self).acquire_idle():
        return True
    return in_section(try_to_acquire, <ParkingLot> self) != 0


cdef int try_to_acquire(ParkingLot primitive) except -1:
    """Acquire what needs no wait; return whether it was acquired."""
    if primitive.acquire_now(no_waiter):
        return True
    return unbind_if_closed(primitive) and primitive.acquire_now(no_waiter)


cdef object get_loop(object self):
    with cython.critical_section(self):
        return loop_of(<ParkingLot> self)


@cython.no_gc_clear
cdef class LockCore(ContextManager):
    def __init__(self, *args, **kwargs):
        pure.Lock.__init__(self, *args, **kwargs)

    # Invariant: while the lock is unlocked and a waiter in the queue can still have a turn, the
    # first waiter is settled: it was woken, or it is cancelled and will call hand_off(). So
    # release(), a cancelled waiter and a newcomer need to look at the head alone.

    cdef bint acquire_now(self, Waiter waiter) except -1:
        if self.held:
            return False
        if self.head is not NULL:
            return acquire_if_none_live(self)
        self.held = True
        return True

    cdef bint acquire_idle(self) noexcept:
        if load_int(&self.held) or not is_idle(self):
            return False
        store_int(&self.held, True)
        return True

    cdef bint release_idle(self) noexcept:
        if not load_int(&self.held) or not is_idle(self):
            return False
        store_int(&self.held, False)
        return True

    cdef int release_now(self, Waiter waiter) except -1:
        if not self.held:
            return refuse_release()
        self.held = False
        return 0 if self.head is NULL else wake_head(self)

    cdef int acquire_woken(self, Waiter waiter) except -1:
        unset_own(self, "_locked")
        self.held = True
        return 0

    cdef int hand_off(self, State state) except -1:
        if not serves(self, lock_class, INTERNALS):  # since it waited
            pure.hand_off(self)
        elif not self.held and self.parked is not NULL and not is_closed(self.loop):
            if not self.held:  # is_closed() may have run Python code
                wake_head(self)
        return 0

    @property
    @cython.critical_section
    def _locked(self):
        return own_or(self, "_locked", <bint> self.held)

    @_locked.setter
    @cython.critical_section
    def _locked(self, value):
        if type(value) is bool:
            unset_own(self, "_locked")
            self.held = value
        else:
            set_own(self, "_locked", value)

    @_locked.deleter
    def _locked(self):
        delete_own(self, "_locked")


cdef object locked(object self):
    return <bint> load_int(&(<LockCore> self).held)


cdef object acquire(object self):
    return inline_new_waiter(<ParkingLot> self, LOCK_ACQUIRE)


cdef object release(object self):
    if not FREE_THREADED or not (<ParkingLot> self).release_idle():
        in_section(release_primitive, <ParkingLot> self)
    return None


cdef object wake_up_first(object self):
    with cython.critical_section(self):
        wake_head(<LockCore> self)


cdef object init(object self):
    with cython.critical_section(self):
        (<LockCore> self).held = False  # if it is called again


cdef bint acquire_if_none_live(LockCore self) except -1:
    cdef bint taken = not self.any_live() and not self.held
    self.held |= taken
    # Unlocked, and no waiter is woken: an earlier release() failed for lack of memory.
    if not taken and not self.held and not self.woken and not is_closed(self.loop):
        if not self.held and not self.woken:
            wake_head(self)
    return taken


cdef int refuse_release() except -1:
    raise RuntimeError("Lock is not acquired.")


cdef int wake_head(LockCore self) except -1:
    if self.head is not NULL and self.head is self.parked:
        self.wake(self.head, True)
    return 0


cdef bint is_plain_lock(object lock) noexcept:
    return is_plain(lock, <PyTypeObject*> lock_class)


cdef bint is_served_lock(object lock) noexcept:
    """Whether C serves a lock that was plain when a condition got it."""
    return is_served(lock, <PyTypeObject*> lock_class, INTERNALS)


set_traverse(<PyTypeObject*> ContextManager, traverse_primitive)
set_traverse(<PyTypeObject*> LockCore, traverse_primitive)

lock_class = new_class(LockCore, pure.Lock, (_internals.locks.Lock,))
Lock = lock_class
method(lock_class, pure.Lock, "acquire", acquire, INTERNALS)
method(lock_class, pure.Lock, "try_acquire", try_acquire, INTERNALS)
method(lock_class, pure.Lock, "release", release, INTERNALS)
method(lock_class, pure.Lock, "locked", locked, INTERNALS)
method(lock_class, pure.Lock, "__aenter__", enter, INTERNALS | ACQUIRE)
exit_method(lock_class, pure.Lock, exit, INTERNALS | RELEASE)
method(lock_class, pure.Lock, "_get_loop", get_loop, 0)
method(lock_class, pure.Lock, "_wake_up_first", wake_up_first, INTERNALS)
method(lock_class, pure.Lock, "__init__", init, INTERNALS)
finish_class(lock_class)
construct_without_init(<PyTypeObject*> lock_class)
cdef LockCore one = Lock()
keep_spares(one, [loop_field(one)], 1)


def make_in_full(bint always):
    """Whether all objects are made and deallocated in full, without spares."""
    keep_no_spares(always)


# ---- The import of the other modules ----

cdef dict vtables = {}  # of all classes of C
loading = RLock()


def load(name):
    """Import a module of this package, such as "barrier".

    Cython finds the methods of a base class by its `__pyx_vtable__`. It is there only during this
    call, since help() and dir() would show it to users. Another thread must not hide it meanwhile.
    """
    with loading:
        try:
            for cls, vtable in vtables.items():
                show_vtable(<PyTypeObject*> cls, vtable)
            return import_module(f"aiofastlock._compiled._{name}")
        finally:
            hide_vtables()


cdef int hide_vtables() except -1:
    for module in list(vars(sys.modules["aiofastlock._compiled"]).values()):
        for cls in vars(module).values() if type(module) is ModuleType else ():
            if isinstance(cls, type) and "__pyx_vtable__" in vars(cls):
                vtables[cls] = vars(cls)["__pyx_vtable__"]
                hide_vtable(<PyTypeObject*> cls)
    return 0
