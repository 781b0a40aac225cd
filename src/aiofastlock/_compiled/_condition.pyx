"""Condition, on the queue of _lock.pyx and a lock."""

cimport cython
from cpython.object cimport PyObject, PyTypeObject
from cpython.pyport cimport PY_SSIZE_T_MAX

from asyncio import CancelledError

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
    give_back,
    has_attributes,
    is_closed,
    is_plain,
    keep_spares,
    leave,
    loop_field,
    lot_locked,
    new_waiter,
    operate,
    send_to,
    set_exit,
    simple_exit_of,
    stand,
    state_of,
    step,
    vectorcallfunc,
)

cdef extern from "_lock.h":
    ctypedef int (*sendfunc)(object, object, PyObject**) except -1
    void set_stop_iteration_true() noexcept
    int make_spare_stop() except -1
    void set_am_send(PyTypeObject*, sendfunc)

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

A lock with a queue of tasks that wait for a notification, in place of asyncio.Condition.

`lock` is any object with acquire(), release() and locked(), which several conditions can share;
without it, the condition has a Lock of its own. Use it as `async with condition:`, and inside,
wait() or notify().

AttributeError: a lock that lacks one of the three.

Behaviour: asyncio.Condition's of Python 3.13. Ours: a condition whose loop is closed binds
itself to the next.
"""
    # None until it is needed, where it is our own. Another one than a plain Lock stands in a tuple,
    # before its methods locked, acquire and release as they were when the condition was made.
    cdef object lock

    def __init__(self, *args, **kwargs):
        if args or kwargs:
            pure.Condition(*args, **kwargs)  # refuses in asyncio's words
            (self._lock,) = args or kwargs.values()
        if type(self) is not Condition:
            _shared.hide_overriding(self, Condition, LOCK_METHODS)

    cdef int admit(self, Waiter waiter) except -1:
        return 0

    cdef int forgo(self, State state) except -1:
        return 0

    cdef Lock plain_lock(self):
        """The lock, if it is of our own Lock, so that nothing need be called; or None."""
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
        """Whether attributes stand in the place of the lock's methods."""
        return has_attributes(self) and not LOCK_METHODS.isdisjoint(vars(self))

    cdef bint is_locked(self) except -1:
        cdef Lock lock = self.plain_lock()
        return self.locked() if lock is None or self.is_patched() else operate(is_held, lock)

    @property
    def _lock(self):
        cdef Lock lock = self.plain_lock()
        return lock_of(self)[0] if lock is None else lock

    @_lock.setter
    def _lock(self, lock):
        if lock is not None and not (type(lock) is Lock and is_plain(<ParkingLot> lock)):
            lock = (lock, lock.locked, lock.acquire, lock.release)
        with cython.critical_section(self):
            _replaced = self.lock  # outlives the change: code may run when it goes
            self.lock = lock

    _waiters = property(_shared.Waiters, _shared.set_waiters)

    def locked(self):
        """Return True if the lock is held, False if not. (The lock's own.)"""
        cdef Lock lock = self.plain_lock()
        return lock_of(self)[1]() if lock is None else bool(operate(is_held, lock))

    def acquire(self):
        """Wait until the lock is unlocked, and lock it. (The lock's own.)"""
        cdef Lock lock = self.plain_lock()
        return lock_of(self)[2]() if lock is None else new_waiter(lock, LOCK_ACQUIRE)

    def release(self):
        """Unlock the lock. (The lock's own.)"""
        cdef Lock lock = self.plain_lock()
        if lock is None:
            return lock_of(self)[3]()
        operate(give_back, lock)
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
        """Unlock the lock, wait for a notification, lock it again, and return True. (asyncio's.)

        Nothing happens until it is awaited. Whatever comes, a CancelledError too, it takes the lock
        back before it ends. It may return without a notification: look at what was waited for, and
        wait again. RuntimeError: the lock is not locked; the condition is bound to another loop,
        which is not closed.
        """
        cdef Lock lock = self.plain_lock()
        if lock is None or self.is_patched():
            return _shared.wait_with_any_lock(self)
        return new_wait(self, lock)

    @cython.always_allow_keywords(True)
    def wait_for(self, predicate):
        """Wait until predicate() is true, and return what it gave. (asyncio's.)

        It is called with the lock held: at once, and after every wait().
        """
        return pure.Condition.wait_for(self, predicate)

    def notify(self, n=1):
        """Let the first `n` tasks that wait go on, once they get the lock. (asyncio's.)

        Returns None. It does not unlock the lock. RuntimeError: the lock is not locked.
        """
        if not self.is_locked():
            raise RuntimeError("cannot notify on un-acquired lock")
        if type(n) is int and 0 <= n < PY_SSIZE_T_MAX:
            with cython.critical_section(self):
                self.wake_up_to(n)
        else:
            self._notify(n)

    def notify_all(self):
        """Let all tasks that wait go on, once they get the lock. (asyncio's.)

        Returns None. RuntimeError: the lock is not locked.
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
        # Twice, since a comparison can run any code.
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


# ---- wait(), over our own Lock ----

cdef enum Phase:
    DONE
    UNSTARTED
    RUNNING  # as others see it while a step is under way, whatever it is
    WAITING  # in the condition's queue
    TAKING   # notified, or thrown into: takes the lock back


cdef inline int is_held(ParkingLot lock) except -1:
    return (<Lock> lock).held


cdef int take_back(ParkingLot lock) except -1:
    return lock.take(None)


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
    """What wait() returns to be awaited: a coroutine in all but its type, like Waiter.

    One waiter stands first in the condition's queue, and then in the lock's. Once it is WAITING,
    the lock is taken back before the await ends, unless what it dies of comes when it is TAKING and
    is no CancelledError. Whatever it dies of, it wakes another: it may have been notified itself.
    """
    cdef Condition condition
    cdef Lock lock      # the condition's, while this was made
    cdef Waiter waiter
    cdef object thrown  # the first exception, in whose context the later ones are
    cdef object raised  # the last one, to be raised when the lock is taken back
    cdef Phase phase
    cdef int running    # so that no code that runs in a step, and no thread, can begin another

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
        return run(self, _shared.exception_to_throw(typ, val, tb))  # or it raises in the end

    def close(self):
        """Stop waiting, as a coroutine's close() does. RuntimeError: the lock is taken."""
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
            # As close() does, but for waiting: the lock is taken if it is free.
            abandon(self.waiter)
            if self.phase == WAITING:
                operate(take_back, self.lock)
            pass_on(self)


cdef inline Phase phase_of(Wait self) noexcept:
    cdef Phase phase = RUNNING
    if begin_to_run(&self.running):
        phase = self.phase
        end_to_run(&self.running)
    return phase


cdef object run(Wait self, object exception):
    """Go on, or raise the exception where it waits; return what to wait for next, or None."""
    cdef int outcome
    if not begin_to_run(&self.running):
        raise ValueError("coroutine already executing")
    try:
        outcome = go_on(self) if exception is None else throw_into(self, exception)
        return future_of_waiter(self.waiter) if outcome == NEXT else None
    finally:
        end_to_run(&self.running)


cdef inline int go_on(Wait self) except -1:
    """Go on until there is something to wait for (self.waiter.future) or nothing left to do."""
    if self.phase == UNSTARTED:
        return begin(self)
    if self.phase == DONE:
        raise RuntimeError("cannot reuse already awaited coroutine")
    if state_of(self.waiter) != WOKEN:
        return go_on_otherwise(self)
    if self.phase == WAITING:
        lot_locked(leave_queue, self.waiter)
        return take_lock(self)
    step(self.waiter)
    return finish(self)


cdef inline int begin(Wait self) except -1:
    self.phase = DONE
    if not operate(is_held, self.lock):
        raise RuntimeError("cannot wait on un-acquired lock")
    future = future_to_yield(self.condition)
    self.waiter = new_waiter(self.condition, LOCK_ACQUIRE)
    self.waiter.state = FINISHED  # until it stands in a queue
    self.waiter.future = future
    operate(give_back, self.lock)
    self.phase = WAITING
    return lot_locked(stand_in_queue, self.waiter)


cdef int stand_in_queue(Waiter waiter) except -1:
    return stand(waiter, waiter.future)


cdef int leave_queue(Waiter waiter) except -1:
    if waiter.state >= PARKED:
        leave(waiter)
    return 0


cdef int take_lock(Wait self) except -1:
    self.phase = TAKING
    if operate(take_if_idle, self.lock):
        return finish(self)
    self.waiter.lot = self.lock
    self.waiter.state = CREATED
    try:
        if step(self.waiter) == NEXT:
            return NEXT
    except BaseException as exception:
        self.waiter.lot = None  # it may be the spare one, from go_on_otherwise()
        add_context(self, exception)
        pass_on(self)
        raise
    return finish(self)


cdef inline int take_if_idle(ParkingLot lot) except -1:
    """Take a lock that nobody holds or waits for; say whether it was taken."""
    cdef bint idle = not (<Lock> lot).held and lot.head is NULL
    (<Lock> lot).held |= idle
    return idle


cdef int finish(Wait self) except -1:
    """The lock is taken back."""
    raised = self.raised
    if raised is None:
        self.phase = DONE
        self.condition = None
        return RETURN
    pass_on(self)
    raise raised


cdef int pass_on(Wait self) except -1:
    """It may have been notified, and will do nothing about it: let another one."""
    cdef Condition condition = self.condition
    self.phase = DONE
    self.condition = None
    self.thrown = self.raised = None
    with cython.critical_section(condition):
        if condition.parked is not NULL and not is_closed(condition.loop):
            condition.wake_up_to(1)
    return 0


cdef int go_on_otherwise(Wait self) except -1:
    """Resumed, but not by a wake-up: others have set or cancelled the future, or nobody has."""
    try:
        step(self.waiter)
    except BaseException as exception:
        return throw_into(self, exception)
    return take_lock(self) if self.phase == WAITING else finish(self)


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
        return take_lock(self)
    add_context(self, exception)
    if isinstance(exception, CancelledError):
        self.raised = exception
        return take_lock(self)
    pass_on(self)
    raise exception


cdef int add_context(Wait self, object exception) except -1:
    """As if it had been raised in an except block of what was thrown first."""
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


set_am_send(<PyTypeObject*> Wait, <sendfunc> wait_send)


finish_public_class(<PyTypeObject*> Condition, "aiofastlock.Condition")
set_exit(<PyTypeObject*> Condition, pure.Condition, <vectorcallfunc> exit_condition)
construct_without_init(<PyTypeObject*> Condition)
cdef Condition one = Condition()
keep_spares(<PyTypeObject*> Condition, one, loop_field(one), lock_field(one))
