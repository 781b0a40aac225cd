"""Condition, on the queue of _lock.pyx and a lock."""

cimport cython
from cpython.object cimport PyObject, PyTypeObject
from cpython.pyport cimport PY_SSIZE_T_MAX

from asyncio.exceptions import CancelledError

from aiofastlock import _shared
from aiofastlock._pure import condition as pure
from aiofastlock._pure import lock as pure_lock

from aiofastlock._compiled._lock cimport (
    CREATED,
    ENTER,
    EXIT,
    FINISHED,
    LOCK_ACQUIRE,
    NEXT,
    PARKED,
    RETURN,
    WOKEN,
    Lock,
    ParkingLot,
    State,
    Waiter,
    abandon,
    begin_to_run,
    construct_without_init,
    end_to_run,
    exit_by_method,
    finish_public_class,
    future_of_waiter,
    future_to_yield,
    release_primitive,
    has_attributes,
    is_closed,
    is_plain,
    keep_spares,
    leave,
    loop_field,
    in_section_of_primitive,
    new_waiter,
    in_section,
    send_to,
    set_exit,
    simple_exit_of,
    enqueue,
    state_of,
    step,
    vectorcallfunc,
)

cdef extern from "_lock.h":
    ctypedef int (*sendfunc)(object, object, PyObject**) except -1
    void set_stop_iteration_true() noexcept
    int make_spare_stop() except -1
    int finish_awaitable(PyTypeObject*, sendfunc, object) except -1

cdef extern from *:
    """
    #define lock_field(condition) (&(condition)->lock)
    #define lock_of(condition) read_field(condition, lock)
    """
    PyObject** lock_field(Condition)
    object lock_of(Condition)
    PyObject* Py_True
    PyObject* Py_NewRef(PyObject*)
    int PyErr_WarnFormat(object category, Py_ssize_t stack_level, const char*) except -1

cdef frozenset LOCK_METHODS = frozenset({"acquire", "locked", "release"})

make_spare_stop()


@cython.no_gc_clear
cdef class Condition(ParkingLot):
    """Condition(lock=None)
--

A lock, and a queue of tasks that wait to be notified. It replaces asyncio.Condition.

`lock` is an object with acquire(), release() and locked(), such as a Lock; several conditions
can share it. Without it, the condition creates a Lock. Use the condition as `async with
condition:`, and call wait() or notify() inside.

AttributeError is raised if `lock` lacks one of the three methods.

It behaves like asyncio.Condition of Python 3.13, except that a condition whose event loop is
closed can be used with another event loop; in asyncio, that raises RuntimeError.
"""
    # The condition's own Lock is None until it is needed. A lock that is not a plain Lock is in a
    # tuple, before its methods locked, acquire and release as they were at the beginning.
    cdef object lock

    def __init__(self, *args, **kwargs):
        lock = None
        if args or kwargs:
            pure.Condition(*args, **kwargs)  # raises in asyncio's words
            (lock,) = args or kwargs.values()
        self._lock = lock
        if type(self) is not Condition:
            _shared.hide_overriding(self, Condition, LOCK_METHODS)

    cdef int acquire_woken(self, Waiter waiter) except -1:
        return 0

    cdef int hand_off(self, State state) except -1:
        return 0

    cdef Lock plain_lock(self):
        """The lock if it is a plain Lock, whose methods need not be called; or None."""
        lock = lock_of(self)
        if lock is None:
            self.make_lock()
            lock = lock_of(self)
        return <Lock> lock if type(lock) is Lock else None

    @cython.critical_section
    cdef int make_lock(self) except -1:
        if self.lock is None:
            self.lock = Lock()
        return 0

    cdef bint is_patched(self) except -1:
        """Whether instance attributes replace the lock's methods."""
        return has_attributes(self) and not LOCK_METHODS.isdisjoint(vars(self))

    cdef bint is_locked(self) except -1:
        cdef Lock lock = self.plain_lock()
        return self.locked() if lock is None or self.is_patched() else in_section(is_held, lock)

    @property
    def _lock(self):
        cdef Lock lock = self.plain_lock()
        return lock_of(self)[0] if lock is None else lock

    @_lock.setter
    def _lock(self, lock):
        if lock is not None and not (type(lock) is Lock and is_plain(<ParkingLot> lock)):
            lock = (lock, lock.locked, lock.acquire, lock.release)
        with cython.critical_section(self):
            _replaced = self.lock  # freed after the change, since its destructor may run code
            self.lock = lock

    _waiters = property(_shared.Waiters, _shared.set_waiters)

    def locked(self):
        """Return what the lock's locked() returns: True if the lock is locked."""
        cdef Lock lock = self.plain_lock()
        return lock_of(self)[1]() if lock is None else bool(in_section(is_held, lock))

    def acquire(self):
        """Call the lock's acquire(): wait until the lock is unlocked, and lock it."""
        cdef Lock lock = self.plain_lock()
        return lock_of(self)[2]() if lock is None else new_waiter(lock, LOCK_ACQUIRE)

    def release(self):
        """Call the lock's release(): unlock the lock, and wake the first waiter."""
        cdef Lock lock = self.plain_lock()
        if lock is None:
            return lock_of(self)[3]()
        in_section(release_primitive, lock)
        return None

    def __aenter__(self):
        cdef Lock lock = self.plain_lock()
        if lock is None or self.is_patched():
            return pure_lock.ContextManager.__aenter__(self)
        return new_waiter(lock, ENTER)

    def __aexit__(self, exc_type, exc, tb):
        cdef Lock lock = self.plain_lock()
        if lock is None or self.is_patched():
            return pure_lock.ContextManager.__aexit__(self, exc_type, exc, tb)
        return new_waiter(lock, EXIT)

    def wait(self):
        """Release the lock, wait to be notified, acquire the lock again, and return True.

        Nothing happens until the result is awaited. The lock is acquired again before wait() ends,
        also if the task is cancelled. wait() may return without a notification, so check what you
        wait for and call it again if need be, or use wait_for(). RuntimeError is raised if the lock
        is not locked, or if the condition is bound to another event loop that is not closed.
        """
        cdef Lock lock = self.plain_lock()
        if lock is None or self.is_patched():
            return _shared.wait_with_any_lock(self)
        return new_wait(self, lock)

    @cython.always_allow_keywords(True)
    def wait_for(self, predicate):
        """Wait until predicate() returns a true value, and return that value.

        The predicate is called with the lock locked: at first, and after each wait().
        """
        return pure.Condition.wait_for(self, predicate)

    def notify(self, n=1):
        """Wake the first `n` tasks that wait to be notified.

        They continue when they have acquired the lock, which notify() does not release.
        RuntimeError is raised if the lock is not locked. There is no return value.
        """
        if not self.is_locked():
            raise RuntimeError("cannot notify on un-acquired lock")
        if type(n) is int and 0 <= n < PY_SSIZE_T_MAX:
            with cython.critical_section(self):
                self.wake_up_to(n)
        else:
            self._notify(n)

    def notify_all(self):
        """Wake all tasks that wait to be notified.

        They continue when they have acquired the lock, which notify_all() does not release.
        RuntimeError is raised if the lock is not locked. There is no return value.
        """
        with cython.critical_section(self):
            waiting = self.count
        self.notify(waiting)

    cdef int wake_up_to(self, Py_ssize_t n) except -1:
        while n > 0 and self.parked is not NULL:
            n -= self.wake(self.parked, False)
        return 0

    @cython.critical_section
    def _notify(self, n):
        cdef Py_ssize_t woken = 0
        # Checked twice, since the comparison can run any code.
        while self.parked is not NULL and woken < n and self.parked is not NULL:
            woken += self.wake(self.parked, False)

    def __getstate__(self):
        state = _shared.getstate(self, "_lock")
        for name in LOCK_METHODS:
            if getattr(state.get(name), "__self__", None) is self:  # from hide_overriding()
                del state[name]
        return state

    def __setstate__(self, state):
        if type(self) is not Condition:
            _shared.hide_overriding(self, Condition, LOCK_METHODS)
        _shared.setstate(self, state)

    def __repr__(self):
        return _shared.represent(self, "locked" if self.locked() else "unlocked")


cdef object exit_condition(PyObject* exit, PyObject** args, size_t nargsf, PyObject* names):
    """As exit_if_plain()."""
    cdef PyObject* self = simple_exit_of(exit, args, nargsf, names)
    cdef Lock lock
    if self is not NULL and not has_attributes(<ParkingLot> self):
        lock = (<Condition> self).plain_lock()
        if lock is not None:
            return new_waiter(lock, EXIT)
    return exit_by_method(exit, args, nargsf, names)


# ---- wait(), with a plain Lock ----

cdef enum Phase:
    DONE
    UNSTARTED
    RUNNING  # what others see while a step runs
    WAITING  # in the condition's queue
    ACQUIRING  # notified, or thrown into: acquires the lock again


cdef inline int is_held(ParkingLot lock) except -1:
    return (<Lock> lock).held


cdef int reacquire(ParkingLot lock) except -1:
    return lock.acquire_now(None)


cdef inline object new_wait(Condition condition, Lock lock):
    cdef Wait wait = Wait.__new__(Wait)
    wait.condition = condition
    wait.lock = lock
    wait.phase = UNSTARTED
    return wait


@cython.final
@cython.freelist(32)
@cython.no_gc_clear  # as for Waiter
cdef class Wait:
    """The awaitable that wait() returns: a coroutine in all but its type, like Waiter.

    One waiter is first in the condition's queue, and then in the lock's. From WAITING on, the lock
    is acquired again before the await ends, unless an exception other than CancelledError comes
    while it is ACQUIRING. If the await ends with an exception, it notifies another waiter, since it
    may have been notified itself.
    """
    cdef Condition condition
    cdef Lock lock      # the condition's, when this was created
    cdef Waiter waiter
    cdef object thrown  # the first exception, the context of later ones
    cdef object raised  # the last one, to raise when the lock is acquired
    cdef Phase phase
    cdef int running    # a step runs: no other code or thread may begin one

    def __await__(self):
        if phase_of(self) >= WAITING:
            raise RuntimeError("coroutine is being awaited already")
        return self

    def __next__(self):  # as Waiter's
        future = run(self, None)
        if future is not None:
            return future
        set_stop_iteration_true()
        raise StopIteration

    def send(self, value):
        """Resume, as a coroutine's send() does."""
        return send_to(self, value)

    def throw(self, typ, val=None, tb=None):
        """Raise an exception where this waits, as a coroutine's throw() does."""
        return run(self, _shared.exception_to_throw(typ, val, tb))  # or raises

    def close(self):
        """Stop waiting, as a coroutine's close() does. RuntimeError if the lock is locked."""
        if phase_of(self) == DONE:
            return
        try:
            run(self, GeneratorExit())
        except GeneratorExit:
            return
        raise RuntimeError("coroutine ignored GeneratorExit")

    @property
    def __name__(self):
        return "wait"

    @property
    def __qualname__(self):
        return "Condition.wait"

    def __repr__(self):
        return f"<coroutine object Condition.wait at {<Py_ssize_t> <PyObject*> self:#x}>"

    def __dealloc__(self):
        if self.phase == UNSTARTED:
            PyErr_WarnFormat(RuntimeWarning, 1, "coroutine 'Condition.wait' was never awaited")
        elif self.phase != DONE:
            # As close() does, without waiting: the lock is acquired if it is unlocked.
            abandon(self.waiter)
            if self.phase == WAITING:
                in_section(reacquire, self.lock)
            notify_another(self)


cdef inline Phase phase_of(Wait self) noexcept:
    cdef Phase phase = RUNNING
    if begin_to_run(&self.running):
        phase = self.phase
        end_to_run(&self.running)
    return phase


cdef object run(Wait self, object exception):
    """Go on, or throw the exception; return the future to wait for next, or None."""
    cdef int outcome
    if not begin_to_run(&self.running):
        raise ValueError("coroutine already executing")
    try:
        outcome = go_on(self) if exception is None else throw_into(self, exception)
        return future_of_waiter(self.waiter) if outcome == NEXT else None
    finally:
        end_to_run(&self.running)


cdef inline int go_on(Wait self) except -1:
    """Run until there is a future to wait for (self.waiter.future), or the await is over."""
    if self.phase == UNSTARTED:
        return begin(self)
    if self.phase == DONE:
        raise RuntimeError("cannot reuse already awaited coroutine")
    if state_of(self.waiter) != WOKEN:
        return go_on_otherwise(self)
    if self.phase == WAITING:
        in_section_of_primitive(leave_queue, self.waiter)
        return acquire_lock(self)
    step(self.waiter)
    return finish(self)


cdef inline int begin(Wait self) except -1:
    self.phase = DONE
    if not in_section(is_held, self.lock):
        raise RuntimeError("cannot wait on un-acquired lock")
    future = future_to_yield(self.condition)
    self.waiter = new_waiter(self.condition, LOCK_ACQUIRE)
    self.waiter.state = FINISHED  # until it is in a queue
    self.waiter.future = future
    in_section(release_primitive, self.lock)
    self.phase = WAITING
    return in_section_of_primitive(enter_queue, self.waiter)


cdef int enter_queue(Waiter waiter) except -1:
    return enqueue(waiter, waiter.future)


cdef int leave_queue(Waiter waiter) except -1:
    if waiter.state >= PARKED:
        leave(waiter)
    return 0


cdef int acquire_lock(Wait self) except -1:
    self.phase = ACQUIRING
    if in_section(acquire_if_idle, self.lock):
        return finish(self)
    self.waiter.primitive = self.lock
    self.waiter.state = CREATED
    try:
        if step(self.waiter) == NEXT:
            return NEXT
    except BaseException as exception:
        self.waiter.primitive = None  # it may be the spare one, from go_on_otherwise()
        add_context(self, exception)
        notify_another(self)
        raise
    return finish(self)


cdef inline int acquire_if_idle(ParkingLot primitive) except -1:
    """Acquire a lock that is unlocked and has no waiters; return whether it was acquired."""
    cdef bint idle = not (<Lock> primitive).held and primitive.head is NULL
    (<Lock> primitive).held |= idle
    return idle


cdef int finish(Wait self) except -1:
    """The lock is acquired again."""
    raised = self.raised
    if raised is None:
        self.phase = DONE
        self.condition = None
        return RETURN
    notify_another(self)
    raise raised


cdef int notify_another(Wait self) except -1:
    """This waiter may have been notified, and does not act on it: notify another one."""
    cdef Condition condition = self.condition
    self.phase = DONE
    self.condition = None
    self.thrown = self.raised = None
    with cython.critical_section(condition):
        if condition.parked is not NULL and not is_closed(condition.loop):
            condition.wake_up_to(1)
    return 0


cdef int go_on_otherwise(Wait self) except -1:
    """Resumed, but not by a wake-up: others have set or cancelled the future, or it is pending."""
    try:
        step(self.waiter)
    except BaseException as exception:
        return throw_into(self, exception)
    return acquire_lock(self) if self.phase == WAITING else finish(self)


cdef int throw_into(Wait self, object exception) except -1:
    cdef Phase phase = self.phase
    if phase == DONE:
        raise RuntimeError("cannot reuse already awaited coroutine")
    if phase == UNSTARTED:
        self.phase = DONE
        self.condition = None
        raise exception
    abandon(self.waiter)
    if phase == WAITING:
        self.thrown = self.raised = exception
        return acquire_lock(self)
    add_context(self, exception)
    if isinstance(exception, CancelledError):
        self.raised = exception
        return acquire_lock(self)
    notify_another(self)
    raise exception


cdef int add_context(Wait self, object exception) except -1:
    """Set the context that an except block for the first exception would set."""
    if exception.__context__ is None and exception is not self.thrown:
        exception.__context__ = self.thrown
    return 0


cdef int wait_send(Wait self, object value, PyObject** result) except -1:
    """am_send, as Waiter's."""
    result[0] = NULL
    if value is not None and phase_of(self) == UNSTARTED:
        raise TypeError("can't send non-None value to a just-started coroutine")
    future = run(self, None)
    result[0] = Py_NewRef(<PyObject*> future if future is not None else Py_True)
    return NEXT if future is not None else RETURN


finish_awaitable(<PyTypeObject*> Wait, <sendfunc> wait_send, _shared.await_by_hand)


finish_public_class(<PyTypeObject*> Condition, "aiofastlock.Condition")
set_exit(<PyTypeObject*> Condition, pure.Condition, <vectorcallfunc> exit_condition)
construct_without_init(<PyTypeObject*> Condition)
cdef Condition one = Condition()
keep_spares(<PyTypeObject*> Condition, one, loop_field(one), lock_field(one))
