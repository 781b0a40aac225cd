"""Condition, on the queue of _lock.pyx and a lock."""

cimport cython
from cpython.object cimport PyObject, PyTypeObject
from cpython.pyport cimport PY_SSIZE_T_MAX
from libc.limits cimport UINT_MAX

from asyncio.exceptions import CancelledError

from aiofastlock import _internals, _shared
from aiofastlock._compiled._lock import Lock
from aiofastlock._pure import condition as pure
from aiofastlock._pure import lock as pure_lock

from aiofastlock._compiled._lock cimport (
    ACQUIRE,
    CONDITION_WAIT,
    CREATED,
    ENTER,
    EXIT,
    FINISHED,
    INTERNALS,
    LOCK_ACQUIRE,
    LOCKED,
    NEXT,
    NO_FRAME,
    RELEASE,
    RETURN,
    WOKEN,
    LockCore,
    ParkingLot,
    State,
    Waiter,
    abandon,
    begin_to_run,
    construct_without_init,
    delete_own,
    end_to_run,
    enqueue,
    exit_method,
    finish_awaitable,
    finish_class,
    future_of_waiter,
    future_to_yield,
    get_loop,
    has_attributes,
    in_section,
    in_section_of_claimed,
    in_section_of_queue,
    is_closed,
    is_plain_lock,
    is_served_lock,
    keep_no_spares,
    keep_spares,
    leave,
    loop_field,
    method,
    method_with_argument,
    new_class,
    new_waiter,
    own_or,
    release_primitive,
    send_to,
    sendfunc,
    serves,
    set_stop_iteration_true,
    state_of,
    step,
    try_to_acquire,
)

cdef extern from *:
    """
    #define lock_field(condition) ((PyObject **)&(condition)->lock)
    #define lock_of(condition) Py_NewRef((PyObject *)pointer_in(&(condition)->lock))
    #define set_lock(condition, lock_) \\
        do { \\
            store_pointer((PyObject **)&(condition)->lock, Py_NewRef(lock_)); \\
            Py_DECREF(Py_None); \\
        } while (0)
    #define tag_of_class(object) tag_of(Py_TYPE(object))
    """
    PyObject** lock_field(ConditionCore)
    object lock_of(ConditionCore)
    void set_lock(ConditionCore, LockCore) noexcept
    unsigned int tag_of "tag_of_class"(LockCore)
    PyObject* Py_True
    PyObject* Py_NewRef(PyObject*)
    int PyErr_WarnFormat(object category, Py_ssize_t stack_level, const char*) except -1
    object PyUnicode_FromFormat(const char*, object, object)

cdef tuple METHODS_OF_LOCK = ("locked", "acquire", "release")
cdef type condition_class
# Of the class, when C was last found to serve its locks. A class may have none, which is 0.
cdef unsigned int tag_of_served_locks = UINT_MAX


@cython.no_gc_clear
cdef class ConditionCore(ParkingLot):
    # None until it is needed, and then the same for ever: it is read outside of the section.
    # A lock that is not a plain Lock, or a second one, is an attribute, as are its methods.
    cdef LockCore lock

    def __init__(self, *args, **kwargs):
        if len(args) == 1 and not kwargs:
            init_with_lock(self, args[0])
        elif not args and list(kwargs) == ["lock"]:
            init_with_lock(self, kwargs["lock"])
        else:
            pure.Condition.__init__(self, *args, **kwargs)

    cdef int acquire_woken(self, Waiter waiter) except -1:
        return 0

    cdef int hand_off(self, State state) except -1:
        return 0

    cdef LockCore own_lock(self):
        lock = lock_of(self)
        if lock is None:
            self.make_lock()
            lock = lock_of(self)
        return <LockCore> lock

    cdef LockCore served_lock(self):
        """The lock if C serves it, or None."""
        cdef LockCore lock = <LockCore> lock_of(self)
        if lock is None:
            lock = self.own_lock()
            if own_or(self, "_lock", None) is not None:  # as make_lock() says
                return None
        if has_attributes(lock) or tag_of(lock) != tag_of_served_locks:
            return self.lock_after_look(lock)
        return lock

    cdef LockCore lock_after_look(self, LockCore lock):
        global tag_of_served_locks
        cdef unsigned int tag = tag_of(lock)
        if not is_served_lock(lock):
            return None
        if tag != 0 and not has_attributes(lock):
            tag_of_served_locks = tag
        return lock

    @cython.critical_section
    cdef int make_lock(self) except -1:
        if self.lock is None:
            set_lock(self, Lock())
            if not is_plain_lock(self.lock):  # the class is patched
                self._lock = self.lock
        return 0

    cdef int wake_up_to(self, Py_ssize_t n) except -1:
        while n > 0 and self.parked is not NULL:
            n -= self.wake(self.parked, False)
        return 0

    _make_lock = Lock

    @property
    def _lock(self):
        lock = own_or(self, "_lock", self)
        return self.own_lock() if lock is self else lock

    @_lock.setter
    def _lock(self, lock):
        attributes = vars(self)
        for name in METHODS_OF_LOCK:  # these stay the methods of the first lock
            if name not in attributes:
                attributes[name] = getattr(self.own_lock(), name)
        attributes["_lock"] = lock

    @_lock.deleter
    def _lock(self):
        delete_own(self, "_lock")

    def __setstate__(self, state):
        init_with_lock(self, state["_lock"])
        _shared.setstate(self, {name: value for name, value in state.items() if name != "_lock"})


cdef inline int is_held(ParkingLot lock) except -1:
    return (<LockCore> lock).held


cdef object call_lock(ConditionCore self, str name):
    """Where C does not serve the lock any more: call the method that it had at the beginning."""
    own = own_or(self, name, None)
    return getattr(pure_lock.Lock, name)(self.lock) if own is None else own()


cdef object locked(object condition):
    cdef ConditionCore self = condition
    cdef LockCore lock = self.served_lock()
    return call_lock(self, "locked") if lock is None else bool(in_section(is_held, lock))


cdef object acquire(object condition):
    cdef ConditionCore self = condition
    cdef LockCore lock = self.served_lock()
    return call_lock(self, "acquire") if lock is None else new_waiter(lock, LOCK_ACQUIRE)


cdef object try_acquire(object self):
    cdef LockCore lock = (<ConditionCore> self).served_lock()
    if lock is None:
        return pure.Condition.try_acquire(self)
    return in_section(try_to_acquire, lock) != 0


cdef object release(object self):
    cdef LockCore lock = (<ConditionCore> self).served_lock()
    if lock is None:
        return call_lock(self, "release")
    in_section(release_primitive, lock)
    return None


cdef object enter(object self):
    cdef LockCore lock = (<ConditionCore> self).served_lock()
    return pure.Condition.__aenter__(self) if lock is None else new_waiter(lock, ENTER)


cdef object exit(object self):
    cdef LockCore lock = (<ConditionCore> self).served_lock()
    if lock is None:
        return pure.Condition.__aexit__(self, None, None, None)
    return new_waiter(lock, EXIT)


cdef object wait(object condition):
    cdef ConditionCore self = condition
    cdef LockCore lock = self.served_lock()
    cdef Wait wait
    if lock is None:
        return pure.Condition.wait(self)
    wait = Wait.__new__(Wait)
    wait.condition = self
    wait.lock = lock
    wait.shown[3] = NO_FRAME
    wait.phase = UNSTARTED
    return wait


cdef object notify(object self):
    return notify_up_to(self, 1)


cdef object notify_up_to(object condition, object n):
    cdef ConditionCore self = condition
    cdef LockCore lock = self.served_lock()
    if lock is None or type(n) is not int or not 0 <= n < PY_SSIZE_T_MAX:
        return pure.Condition.notify(self, n)
    if not in_section(is_held, lock):
        raise RuntimeError("cannot notify on un-acquired lock")
    with cython.critical_section(self):
        self.wake_up_to(n)


cdef object notify_all(object condition):
    cdef ConditionCore self = condition
    with cython.critical_section(self):
        waiting = self.count
    return self.notify(waiting)


cdef object notify_some(object condition, object n):
    cdef ConditionCore self = condition
    cdef Py_ssize_t woken = 0
    with cython.critical_section(self):
        # Checked twice, since the comparison can run any code.
        while self.parked is not NULL and woken < n and self.parked is not NULL:
            woken += self.wake(self.parked, False)


cdef object init(object self):
    return init_with_lock(self, None)


cdef object init_with_lock(object condition, object lock):
    cdef ConditionCore self = condition
    cdef bint plain = lock is None or is_plain_lock(lock)
    if plain and serves(self, condition_class, LOCKED | ACQUIRE | RELEASE):
        with cython.critical_section(self):
            if self.lock is None:  # else this is called again
                if lock is not None:
                    set_lock(self, lock)
                return
    pure.Condition.__init__(self, lock)


# ---- wait(), with a plain Lock ----

cdef enum Phase:
    DONE
    UNSTARTED
    RUNNING  # what others see while a step runs
    WAITING  # in the condition's queue
    ACQUIRING  # notified, or thrown into: acquires the lock again


cdef int reacquire(ParkingLot lock) except -1:
    return lock.acquire_now(None)


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
    cdef object __weakref__
    cdef ConditionCore condition
    cdef LockCore lock      # the condition's, when this was created
    cdef Waiter waiter
    cdef object thrown  # the first exception, the context of later ones
    cdef object raised  # the last one, to raise when the lock is acquired
    cdef unsigned char shown[4]  # as Waiter's
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

    # For _shared.COROUTINE_ATTRIBUTES:

    @property
    def _qualname(self):
        return "Condition.wait"

    @property
    def _stage(self):
        cdef Phase phase = phase_of(self)
        if phase == RUNNING:
            return "running"
        return "suspended" if phase >= WAITING else "created" if phase == UNSTARTED else "closed"

    @property
    def _awaited(self):
        return None if self.waiter is None else future_of_waiter(self.waiter)

    @property
    def _waiting_for(self):
        return None if self.waiter is None else self.waiter._waiting_for

    def __repr__(self):
        return PyUnicode_FromFormat("<coroutine object %S at %p>", self.__qualname__, self)

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
        in_section_of_queue(leave_queue, self.waiter)
        return acquire_lock(self)
    step(self.waiter)
    return finish(self)


cdef inline int begin(Wait self) except -1:
    self.phase = DONE
    if not in_section(is_held, self.lock):
        raise RuntimeError("cannot wait on un-acquired lock")
    future = future_to_yield(self.condition)
    self.waiter = new_waiter(self.condition, CONDITION_WAIT)
    self.waiter.state = FINISHED  # until it is in a queue
    self.waiter.future = future
    in_section(release_primitive, self.lock)
    self.phase = WAITING
    return in_section_of_claimed(enter_queue, self.waiter)


cdef int enter_queue(Waiter waiter) except -1:
    return enqueue(waiter, waiter.future)


cdef int leave_queue(Waiter waiter) except -1:
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
    return primitive.head is NULL and primitive.acquire_now(None)


cdef int finish(Wait self) except -1:
    """The lock is acquired again."""
    raised = self.raised
    if raised is None:
        self.phase = DONE
        self.condition = None
        return RETURN
    notify_another(self)
    raise _shared.as_raised(raised)


cdef int notify_another(Wait self) except -1:
    """This waiter may have been notified, and does not act on it: notify another one."""
    cdef ConditionCore condition = self.condition
    self.phase = DONE
    self.condition = None
    self.thrown = self.raised = None
    if not serves(condition, condition_class, INTERNALS):  # since it waited
        condition._notify(1)
        return 0
    with cython.critical_section(condition):
        if condition.parked is not NULL and not is_closed(condition.loop):
            condition.wake_up_to(1)
    return 0


cdef int go_on_otherwise(Wait self) except -1:
    """Resumed, but not by a wake-up: others have set or cancelled the future, or it is pending."""
    try:
        if step(self.waiter) == NEXT:
            return NEXT
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
        raise _shared.as_raised(exception)
    abandon(self.waiter)
    if phase == WAITING:
        self.thrown = self.raised = exception
        return acquire_lock(self)
    add_context(self, exception)
    if isinstance(exception, CancelledError):
        self.raised = exception
        return acquire_lock(self)
    notify_another(self)
    raise _shared.as_raised(exception)


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


finish_awaitable(Wait, <sendfunc> wait_send)


condition_class = new_class(ConditionCore, pure.Condition, (_internals.locks.Condition,))
Condition = condition_class
method(condition_class, pure.LockMethods, "locked", locked, INTERNALS)
method(condition_class, pure.LockMethods, "acquire", acquire, INTERNALS)
method(condition_class, pure.LockMethods, "release", release, INTERNALS)
method(condition_class, pure.Condition, "try_acquire", try_acquire, INTERNALS)
method(condition_class, pure.Condition, "__aenter__", enter, INTERNALS | ACQUIRE)
exit_method(condition_class, pure.Condition, exit, INTERNALS | RELEASE)
method(condition_class, pure.Condition, "wait", wait, INTERNALS | LOCKED | ACQUIRE | RELEASE)
method(condition_class, pure.Condition, "wait_for", NULL, 0)
method_with_argument(
    condition_class, pure.Condition, "notify", notify, notify_up_to, INTERNALS | LOCKED
)
method(condition_class, pure.Condition, "notify_all", notify_all, INTERNALS)
method_with_argument(condition_class, pure.Condition, "_notify", NULL, notify_some, INTERNALS)
method(condition_class, pure.Condition, "_get_loop", get_loop, 0)
method_with_argument(
    condition_class, pure.Condition, "__init__", init, init_with_lock, INTERNALS
)
finish_class(condition_class)
construct_without_init(<PyTypeObject*> condition_class)
cdef ConditionCore one = Condition()
keep_spares(one, [loop_field(one), lock_field(one)], 2)


def make_in_full(bint always):
    """As _lock's."""
    keep_no_spares(always)
