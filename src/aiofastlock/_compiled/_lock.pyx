"""The compiled half's core: the queue of waiters, the awaitable, and Lock.

A `ParkingLot` is what every primitive is: a queue of those that wait for it, in order of arrival.
A `Waiter` is what `acquire()` returns, and what stands in that queue: the awaitable and the node of
the list are one object, so a wait allocates it and one future and nothing more.

The queue is doubly linked, through pointers that own nothing. A waiter is owned by the frame or the
task that awaits it, and it owns its lot; it links itself when it parks and unlinks itself when it
is resumed, thrown into, closed or deallocated. The lot owns the futures of those in its queue, and
so keeps a task that nobody else has as long as it may be woken. From that follow the invariants:

- A waiter is in the queue exactly while its state is PARKED, PASSED or WOKEN. It then has a lot
  and a future, and is alive: what the links point at is never gone. A lot with a queue is alive
  too.
- `parked` is the first that is PARKED. Those before it are settled: woken, or found to be cancelled
  (PASSED). A waiter leaves when its task has run, and once settled nobody need look at it again.
- Every step takes constant time, wherever in the queue the waiter is. (asyncio's deque.remove()
  makes cancelling N tasks take N * N.) Nothing recurses, however long the queue.
- A state is changed before anything is called that may run Python code (a loop's create_future()
  and is_closed(), a future's methods, its death, the collector), so that such code finds lot and
  queue whole; what such code may have changed is looked at again after it.
- A turn is never lost. A waiter that was woken either takes its turn or, whatever it dies of, hands
  it on through forgo().

A waiter parks on a real future of the loop, since tasks, debuggers and other libraries look there.
Nobody tells the lot when a future is cancelled. That is found out when its waiter comes first.

Considered and not done: a queue of futures, with the awaitable beside it (one more object a wait,
and a search or an index to unlink it); links that own (a chain of waiters then dies recursively,
and a waiter dropped half-way is never noticed); marking cancelled waiters through a callback on the
future (costs every wait what only a cancelled one needs).
"""

cimport cython
from cpython.object cimport PyObject, PyTypeObject

import asyncio
from collections import deque

from aiofastlock import _shared
from aiofastlock._pure import lock as pure

cdef extern from "_lock.h":
    ctypedef int (*sendfunc)(object, object, PyObject**) except -1
    PyObject* take_spare_waiter() noexcept
    object owned(PyObject*)
    void set_lot(Waiter, ParkingLot) noexcept
    void drop_lot(Waiter) noexcept
    void keep_spare_waiter(object)
    void track_anew(Waiter) noexcept
    void set_stop_iteration_true() noexcept
    void set_stop_iteration_index(Py_ssize_t) noexcept
    int make_spare_stop() except -1
    void set_am_send(PyTypeObject*, sendfunc)
    ctypedef int (*visitproc)(PyObject*, void*) noexcept
    ctypedef int (*traverseproc)(PyObject*, visitproc, void*) noexcept
    traverseproc traverse_fields
    void set_traverse(PyTypeObject*, traverseproc) noexcept

cdef extern from "_guard.h":
    void may_be_looked_for(Waiter) noexcept

cdef extern from "_loop.h":
    int learn_asyncio(object events, object handle, object future, object deque, object error,
                      object judge, object report) except -1
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
    bint PyCFunction_Check(object)
    PyObject* PyCFunction_GetSelf(object) except? NULL
    void Py_FatalError(const char*) noexcept

cdef object get_running_loop = asyncio._get_running_loop  # typed: using it looks nothing up
make_spare_stop()
learn_asyncio(asyncio.events, asyncio.Handle, asyncio.Future, deque, asyncio.InvalidStateError,
              _shared.is_asyncios_loop, _shared.report)

# What an awaitable is called, by Call: it can outlive its lot.
cdef tuple QUALNAMES = (
    "Lock.acquire",
    "Semaphore.acquire",
    "Event.wait",
    "Barrier.wait",
    "Barrier.__aenter__",
    "ContextManager.__aenter__",
    "Barrier.reset",
    "Barrier.abort",
    "Barrier.__aexit__",
    "ContextManager.__aexit__",
)


cdef inline object inline_new_waiter(ParkingLot lot, Call call):
    cdef PyObject* waiter = take_spare_waiter()
    if waiter is NULL:
        return allocate_waiter(lot, call)
    set_lot(<Waiter> waiter, lot)
    (<Waiter> waiter).state = CREATED
    (<Waiter> waiter).call = call
    return owned(waiter)


cdef object allocate_waiter(ParkingLot lot, Call call):
    cdef Waiter waiter
    try:
        waiter = Waiter.__new__(Waiter)
    except MemoryError:
        if call == EXIT:  # nobody will give back what this cannot
            lot.give(None)
        raise
    set_lot(waiter, lot)
    waiter.state = CREATED
    waiter.call = call
    return waiter


cdef object new_waiter(ParkingLot lot, Call call):  # for the other modules
    return inline_new_waiter(lot, call)


# ---- The queue ----

@cython.no_gc_clear  # Cython would leave None where a __dict__ has to be; dicts break cycles
cdef class ParkingLot:
    """A queue of waiters. What they wait for, the primitives say, in four methods."""

    def __cinit__(self):
        drop_attributes(self)

    def __dealloc__(self):
        drop_attributes(self)

    cdef bint take(self, Waiter waiter) except -1:
        """Take what an await is for, if that needs no wait; say whether it was taken."""
        raise NotImplementedError

    cdef int give(self, Waiter waiter) except -1:
        """What an await does that never waits, such as the end of `async with`."""
        raise NotImplementedError

    cdef int admit(self, Waiter waiter) except -1:
        """A woken waiter takes its turn. It has left the queue."""
        raise NotImplementedError

    cdef int forgo(self, State state) except -1:
        """A waiter died instead of taking its turn, in that state. It has left the queue."""
        raise NotImplementedError

    cdef bint settle_if_done(self, PyObject* parked) except -1:
        """Pass over a parked waiter if it is done by other hands; say whether it is."""
        cdef Waiter waiter = alive(parked)
        if waiter is None:  # it dies in another thread
            settle(self, parked, PASSED)
            return True
        future = waiter.future
        cdef bint done = future.done()
        cdef bint live = done and has_result(future)
        if done and waiter.future is future:  # still: these may be Python code
            settle(self, parked, WOKEN if live else PASSED)
        return done

    cdef bint any_live(self) except -1:
        """Whether anybody in the queue is still to have a turn. Amortised O(1)."""
        while not self.woken and self.parked is not NULL:
            if not self.settle_if_done(self.parked):
                break
        return self.woken > 0 or self.parked is not NULL

    cdef bint wake(self, PyObject* parked, object result) except -1:
        """Give a parked waiter its turn, unless it is cancelled; say whether it was given."""
        cdef Waiter waiter = alive(parked)
        if waiter is None:  # it dies in another thread
            settle(self, parked, PASSED)
            return False
        future = waiter.future
        settle(self, parked, WOKEN)
        cdef int outcome = set_result(future, result)
        if outcome == RESULT_SET:
            return True
        return not_set(self, waiter, future, outcome)

    _waiters = property(_shared.waiters_or_none, _shared.set_waiters)

    @property
    @cython.critical_section
    def _loop(self):
        return self.loop

    @_loop.setter
    @cython.critical_section
    def _loop(self, loop):
        _replaced = self.loop  # outlives the change: code may run when it goes
        self.loop = loop

    @property
    @cython.critical_section
    def _waiting(self):
        return self.count

    @cython.critical_section
    def _futures(self):
        cdef list futures = []
        cdef PyObject* waiter = self.head
        while len(futures) < self.count:
            futures.append((<Waiter> waiter).future)
            waiter = (<Waiter> waiter).next
        return futures

    @cython.critical_section
    def _get_loop(self):
        return loop_of(self)

    @cython.critical_section
    def _future(self):
        return future_of(self)

    @cython.critical_section
    def _enqueue(self, future):
        cdef Waiter waiter = new_waiter(self, LOCK_ACQUIRE)
        stand(waiter, future)
        return waiter

    @cython.critical_section
    def _dequeue(self, Waiter waiter not None):
        if waiter.state >= PARKED and waiter.lot is self:
            leave(waiter)

    def __reduce_ex__(self, protocol):
        return object.__reduce_ex__(self, max(protocol, 2))

    def __setstate__(self, state):
        _shared.setstate(self, state)


cdef inline void append(ParkingLot lot, Waiter waiter) noexcept:
    cdef PyObject* self = <PyObject*> waiter
    if lot.head is NULL:
        lot.head = waiter.prev = waiter.next = self
    else:
        waiter.next = lot.head
        waiter.prev = (<Waiter> lot.head).prev
        (<Waiter> waiter.prev).next = self
        (<Waiter> waiter.next).prev = self
    if lot.parked is NULL:
        lot.parked = self
    lot.count += 1
    Py_INCREF(<PyObject*> waiter.future)


cdef inline void pass_over(ParkingLot lot, PyObject* waiter) noexcept:
    """Whoever is parked from here on, it is not this one."""
    cdef PyObject* following = (<Waiter> waiter).next
    if lot.parked is waiter:
        while following is not lot.head and (<Waiter> following).state != PARKED:
            following = (<Waiter> following).next
        lot.parked = NULL if following is lot.head else following


cdef inline void settle(ParkingLot lot, PyObject* waiter, State state) noexcept:
    if (<Waiter> waiter).state == PARKED:
        pass_over(lot, waiter)
        (<Waiter> waiter).state = state
        lot.woken += state == WOKEN
    if AIOFASTLOCK_DEBUG:
        check(lot)


cdef bint not_set(ParkingLot lot, Waiter waiter, object future, int outcome) except -1:
    """set_result() raised, or the future was done already."""
    try:
        raise_if_failed(outcome)
    except BaseException:  # not `try` in wake(): that costs every wake-up
        if waiter.future is future:
            unwake(lot, waiter)
        raise
    pass_if_cancelled(lot, waiter, future)
    return False


cdef int unwake(ParkingLot lot, Waiter waiter) except -1:
    """set_result() raised: unless the future is done, it is as if it had never been tried."""
    if waiter.state == WOKEN:
        waiter.state = PARKED
        lot.woken -= 1
        lot.parked = <PyObject*> waiter
    lot.settle_if_done(<PyObject*> waiter)  # may raise as well, where the stack is at its end
    return 0


cdef int pass_if_cancelled(ParkingLot lot, Waiter waiter, object future) except -1:
    """The future was done: by other hands, which have let the waiter through, or not."""
    cdef bint live = has_result(future)
    if not live and waiter.future is future and waiter.state == WOKEN:
        waiter.state = PASSED
        lot.woken -= 1
    return 0


cdef bint has_result(object future) except -1:
    """Whether a future that is done lets its waiter through: neither cancelled nor failed."""
    return not future.cancelled() and future.exception() is None


cdef inline void unlink(ParkingLot lot, PyObject* waiter) noexcept:
    cdef PyObject* prev = (<Waiter> waiter).prev
    cdef PyObject* next = (<Waiter> waiter).next
    pass_over(lot, waiter)
    if next is waiter:
        lot.head = NULL
    else:
        (<Waiter> prev).next = next
        (<Waiter> next).prev = prev
        if lot.head is waiter:
            lot.head = next
    lot.count -= 1
    lot.woken -= (<Waiter> waiter).state == WOKEN
    Py_DECREF(<PyObject*> (<Waiter> waiter).future)  # the waiter has it still
    if AIOFASTLOCK_DEBUG:
        check(lot)


cdef int traverse_lot(PyObject* lot, visitproc visit, void* arg) noexcept:
    """What the collector asks. No count of references may change here."""
    cdef PyObject* waiter = (<ParkingLot> lot).head
    cdef int stop
    while waiter is not NULL:
        stop = visit(<PyObject*> (<Waiter> waiter).future, arg)
        if stop:
            return stop
        waiter = (<Waiter> waiter).next
        if waiter is (<ParkingLot> lot).head:
            break
    return traverse_fields(lot, visit, arg)


set_traverse(<PyTypeObject*> ParkingLot, traverse_lot)


cdef void check(ParkingLot lot) noexcept:
    """Abort unless links, counts and states agree. (Of a long queue, one time in 256.)"""
    cdef PyObject* waiter = lot.head
    cdef PyObject* parked = NULL
    cdef unsigned int count = 0, woken = 0
    if lot.count > 256 and lot.count % 256:
        return
    while waiter is not NULL:
        count += 1
        woken += (<Waiter> waiter).state == WOKEN
        if parked is NULL and (<Waiter> waiter).state == PARKED:
            parked = waiter
        if (
            (<Waiter> waiter).state < PARKED
            or (<Waiter> waiter).lot is not lot
            or (<Waiter> waiter).future is None
            or (<Waiter> (<Waiter> waiter).next).prev is not waiter
            or count > lot.count
        ):  # pragma: no cover - it aborts
            Py_FatalError("aiofastlock: the links of a queue are broken")
        waiter = (<Waiter> waiter).next
        if waiter is lot.head:
            break
    if count != lot.count or woken != lot.woken or parked is not lot.parked:
        Py_FatalError("aiofastlock: the counts of a queue are wrong")  # pragma: no cover - so too


cdef int bind(ParkingLot lot, object loop) except -1:
    """Bind a lot to the running loop, or refuse it."""
    if loop is None:
        raise RuntimeError("no running event loop")
    if lot.loop is not None and not is_closed(lot.loop):
        raise RuntimeError(f"{lot!r} is bound to a different event loop")
    bound = lot.loop  # outlives the change, as above
    lot.loop = loop
    if bound is not None and bound is not loop:
        let_go(lot)
    return 0


cdef int call_with_lot(ParkingLot lot, object callback) except -1:
    """Have the loop call callback(lot) in its next iteration."""
    return call_soon(lot.loop, callback, lot)


cdef int let_go(ParkingLot lot) except -1:
    """Nobody can be woken on a closed loop: take all out that are still parked there."""
    cdef list futures = []  # they die last: code that runs when they go may park others
    cdef list states = []
    cdef PyObject* head
    cdef Waiter waiter
    while lot.head is not NULL:
        head = lot.head
        futures.append((<Waiter> head).future)
        states.append((<Waiter> head).state)
        waiter = alive(head)
        if waiter is not None:
            leave(waiter)
        else:  # as above
            unlink(lot, head)
            (<Waiter> head).state = FINISHED
    for state in states:
        lot.forgo(state)
    return 0


cdef bint is_closed(object loop) except -1:
    try:
        return loop is not None and loop.is_closed()
    except AttributeError:  # the collector has emptied it: it dies with those that wait on it
        return True


# ---- The awaitable ----

@cython.final
@cython.freelist(32)
@cython.no_gc_clear  # a linked waiter needs its lot until it is unlinked; the lot breaks any cycle
cdef class Waiter:
    """What a primitive's methods return to be awaited, once: a coroutine in all but its type."""

    def __await__(self):
        if state_of(self) >= PARKED:
            raise RuntimeError("coroutine is being awaited already")
        return self

    # To end an await with None costs least: NULL is returned with no exception set. Cython makes
    # that of this raise as long as it stands in __next__, outside of any try or with.
    def __next__(self):
        if lot_locked(inline_step, self) == NEXT:
            return future_of_waiter(self)
        if self.call < FIRST_TO_GIVE_NONE:
            if self.call < FIRST_TO_GIVE_INDEX:
                set_stop_iteration_true()
            else:
                set_stop_iteration_index(self.index)
        raise StopIteration

    # Not by way of __next__: an exception that goes to Python code is none to use again.
    def send(self, value):
        """Resume, as a coroutine's send() does."""
        return send_to(self, value)

    def throw(self, typ, val=None, tb=None):
        """Raise an exception where this waits, as a coroutine's throw() does."""
        if not isinstance(typ, BaseException) or val is not None or tb is not None:
            typ = _shared.exception_to_throw(typ, val, tb)
        lot_locked(abandon_unless_finished, self)
        raise typ

    def close(self):
        """Stop waiting, as a coroutine's close() does."""
        abandon(self)

    @property
    def __name__(self):
        return QUALNAMES[self.call].rpartition(".")[2]

    @property
    def __qualname__(self):
        return QUALNAMES[self.call]

    def __repr__(self):
        return f"<coroutine object {self.__qualname__} at {<Py_ssize_t> <PyObject*> self:#x}>"

    def __dealloc__(self):
        cdef State state = state_of(self)
        if state == CREATED:
            qualname = self.__qualname__
            PyErr_WarnFormat(RuntimeWarning, 1, "coroutine '%U' was never awaited",
                             <PyObject*> qualname)
        elif state != FINISHED:
            abandon(self)


cdef inline int inline_step(Waiter self) except -1:
    """Go on until there is something to wait for (self.future) or nothing left to do."""
    if self.state != CREATED:
        return resume(self)
    self.state = FINISHED
    if self.call >= FIRST_TO_END:
        self.lot.give(self)
    elif not self.lot.take(self):
        return park(self)
    drop_lot(self)
    keep_spare_waiter(self)
    return RETURN


cdef int step(Waiter self) except -1:  # for the other modules, and where it need not be fast
    return lot_locked(inline_step, self)


cdef int park(Waiter self) except -1:
    cdef ParkingLot lot = self.lot
    future = future_of(lot)
    set_blocking(future)
    # Once more: what stood in the way may have gone with a closed loop, or while code ran to make
    # the future (the collector can run any), and then nobody would come to wake this waiter.
    if lot.take(self):
        drop_lot(self)
        return RETURN
    return stand(self, future)


cdef int stand(Waiter self, object future) noexcept:
    """Stand in the queue of its lot, waiting on a future, which is to be yielded."""
    cdef ParkingLot lot = self.lot
    self.future = future
    may_be_looked_for(self)
    track_anew(self)
    self.state = PARKED
    append(lot, self)
    if AIOFASTLOCK_DEBUG:
        check(lot)
    return NEXT


cdef inline object loop_of(ParkingLot lot):
    """The loop that a lot's waiters wait on, which is the running one; the first binds it."""
    loop = get_running_loop()
    if lot.loop is not loop or loop is None:
        bind(lot, loop)
    return loop


cdef inline object future_of(ParkingLot lot):
    return new_future(loop_of(lot))


cdef object future_to_yield(ParkingLot lot):
    with cython.critical_section(lot):
        future = future_of(lot)
    set_blocking(future)
    return future


cdef int resume(Waiter self) except -1:
    cdef ParkingLot lot = self.lot
    future = self.future  # outlives the step: code may run when it goes
    if self.state == PARKED or self.state == PASSED:
        check_result(self, future)
    if self.state == FINISHED:
        raise RuntimeError("cannot reuse already awaited coroutine")
    leave(self)
    lot.admit(self)
    keep_spare_waiter(self)
    return RETURN


cdef int check_result(Waiter self, object future) except -1:
    """Resumed, but not by wake(): others have set or cancelled the future, or nobody has."""
    try:
        if not future.done():
            raise RuntimeError("await wasn't used with future")
        future.result()
    except BaseException:
        abandon_in_section(self)
        raise
    return 0


cdef int abandon_unless_finished(Waiter self) except -1:
    if self.state == FINISHED:
        raise RuntimeError("cannot reuse already awaited coroutine")
    return abandon_in_section(self)


cdef int abandon(Waiter self) except -1:
    """Finish without having had the turn."""
    return lot_locked(abandon_in_section, self)


cdef int abandon_in_section(Waiter self) except -1:
    cdef ParkingLot lot = self.lot
    cdef State state = self.state
    _future = self.future  # as in resume()
    if state == CREATED:
        self.state = FINISHED
        drop_lot(self)
    elif state != FINISHED:
        leave(self)
        lot.forgo(state)
    return 0


cdef void leave(Waiter self) noexcept:
    unlink(self.lot, <PyObject*> self)
    self.state = FINISHED
    self.future = None  # before the lot: without one, nobody keeps out of whose section this is
    drop_lot(self)


cdef int waiter_send(Waiter self, object value, PyObject** result) except -1:
    """am_send: what tasks call, and the interpreter of 3.11 and 3.15."""
    result[0] = NULL  # also if it raises
    if value is not None and state_of(self) == CREATED:
        raise TypeError("can't send non-None value to a just-started coroutine")
    if lot_locked(inline_step, self) == NEXT:
        future = future_of_waiter(self)
        result[0] = Py_NewRef(<PyObject*> future)
        return NEXT
    if self.call >= FIRST_TO_GIVE_NONE:
        result[0] = Py_NewRef(Py_None)
    elif self.call < FIRST_TO_GIVE_INDEX:
        result[0] = Py_NewRef(Py_True)
    else:
        result[0] = PyLong_FromSsize_t(self.index)
    return RETURN


set_am_send(<PyTypeObject*> Waiter, <sendfunc> waiter_send)


cdef object send_to(object awaitable, object value):
    """send(), by am_send."""
    cdef PyObject* result
    cdef int outcome = PyIter_Send(awaitable, value, &result)
    sent = owned(result)
    if outcome == NEXT:
        return sent
    raise StopIteration if sent is None else StopIteration(sent)


# ---- Lock ----

cdef class ContextManager(ParkingLot):
    """`async with`, by take() and give(), or by whatever acquire() and release() there are."""

    def __aenter__(self):
        return inline_new_waiter(self, ENTER) if is_plain(self) else enter_any(self)

    def __aexit__(self, exc_type, exc, tb):
        if is_plain(self) or is_own(self, "release"):
            return new_waiter(self, EXIT)
        return pure.ContextManager.__aexit__(self, exc_type, exc, tb)


cdef object enter_any(ContextManager self):
    if is_own(self, "acquire"):
        return new_waiter(self, ENTER)
    return pure.ContextManager.__aenter__(self)


cdef bint is_own(ParkingLot lot, str name) except -1:
    """Whether a method is in C, and neither a subclass nor an instance attribute overrides it."""
    method = getattr(lot, name)
    return PyCFunction_Check(method) and PyCFunction_GetSelf(method) is <PyObject*> lot


cdef object exit_if_plain(PyObject* exit, PyObject** args, size_t nargsf, PyObject* names):
    """__aexit__ as the interpreter calls it: a plain lock needs no references to the arguments."""
    cdef PyObject* lot = simple_exit_of(exit, args, nargsf, names)
    if lot is not NULL and not has_attributes(<ParkingLot> lot):
        return inline_new_waiter(<ParkingLot> lot, EXIT)
    return exit_by_method(exit, args, nargsf, names)


@cython.no_gc_clear
cdef class Lock(ContextManager):
    """Lock()
--

A mutual exclusion lock for asyncio tasks, in place of asyncio.Lock.

It is locked or unlocked, and belongs to no task. Tasks that wait for it get it in the order in
which they came. Use it as `async with lock:`, or call acquire() and, in a finally, release().

Behaviour: asyncio.Lock's of Python 3.13. Ours: a woken task that dies before it has taken the
lock, of whatever, hands its turn on; a lock whose loop is closed binds itself to the next.
"""

    def __init__(self, *args, **kwargs):
        if args or kwargs:
            pure.Lock.__init__(self, *args, **kwargs)  # refuses them in Python's words

    # When nobody holds the lock, the head of a queue with anybody live in it is settled: woken, or
    # cancelled and about to call forgo(). So whoever releases, forgoes or comes anew only ever
    # has to look at the head.

    cdef bint take(self, Waiter waiter) except -1:
        if self.held:
            return False
        if self.head is not NULL:
            return take_if_nobody_lives(self)
        self.held = True
        return True

    cdef int give(self, Waiter waiter) except -1:
        if not self.held:
            return refuse_release()
        self.held = False
        return 0 if self.head is NULL else wake_head(self)

    cdef int admit(self, Waiter waiter) except -1:
        self.held = True
        return 0

    cdef int forgo(self, State state) except -1:
        if not self.held and self.parked is not NULL and not is_closed(self.loop):
            if not self.held:  # still not: is_closed() is Python code
                wake_head(self)
        return 0

    @property
    @cython.critical_section
    def _locked(self):
        return self.held

    @_locked.setter
    @cython.critical_section
    def _locked(self, value):
        self.held = value

    @cython.critical_section
    def locked(self):
        """Return True if the lock is held, False if not. (asyncio's.)

        False also while a released lock is on its way to a task that waited for it.
        """
        return self.held

    def acquire(self):
        """Wait until the lock is unlocked, lock it, and return True. (asyncio's.)

        Nothing happens until it is awaited. It gives way to those that wait already. Cancelled, it
        raises CancelledError and leaves the lock as it was. RuntimeError, where it has to wait: the
        lock is bound to another loop, which is not closed.
        """
        return inline_new_waiter(self, LOCK_ACQUIRE)

    def release(self):
        """Unlock the lock, and let the first that waits for it have it. (asyncio's.)

        Returns None. RuntimeError: the lock is not locked.
        """
        operate(give_back, self)

    def __getstate__(self):
        return _shared.getstate(self, "_locked")

    def __repr__(self):
        return _shared.represent(self, "locked" if self._locked else "unlocked")


cdef bint take_if_nobody_lives(Lock self) except -1:
    cdef bint taken = not self.any_live() and not self.held
    self.held |= taken
    # Free, and nobody was woken: a release() has failed, for want of memory.
    if not taken and not self.held and not self.woken and not is_closed(self.loop):
        if not self.held and not self.woken:
            wake_head(self)
    return taken


cdef int refuse_release() except -1:
    raise RuntimeError("Lock is not acquired.")


cdef int wake_head(Lock self) except -1:
    if self.head is not NULL and self.head is self.parked:
        self.wake(self.head, True)
    return 0


set_traverse(<PyTypeObject*> ContextManager, traverse_lot)
set_traverse(<PyTypeObject*> Lock, traverse_lot)
finish_public_class(<PyTypeObject*> Lock, "aiofastlock.Lock")
set_exit(<PyTypeObject*> Lock, pure.Lock, <vectorcallfunc> exit_if_plain)
construct_without_init(<PyTypeObject*> Lock)
cdef Lock one = Lock()
keep_spares(<PyTypeObject*> Lock, one, loop_field(one), NULL)
