"""Queue, LifoQueue and PriorityQueue, on the queue of waiters of _lock.pyx.

`put()` and `get()` return a `Transfer`, which has one waiter if it must wait: in the parking lot of
the queue's getters, or of its putters.
"""

cimport cython
from cpython.object cimport PyObject, PyTypeObject

from _collections import deque  # also where collections is patched
import heapq

from aiofastlock import _internals, _shared
from aiofastlock._compiled._event import Event
from aiofastlock._pure import queue as pure
from aiofastlock._pure.queue import QueueEmpty, QueueFull, QueueShutDown

from aiofastlock._compiled._lock cimport (
    FINISHED,
    INTERNALS,
    LOCK_ACQUIRE,
    NEXT,
    NO_FRAME,
    PARKED,
    QUEUE,
    QUEUE_NOWAIT,
    RETURN,
    ParkingLot,
    State,
    Waiter,
    alive,
    attributes_of,
    begin_to_run,
    construct_without_init,
    delete_own,
    discard_waiters,
    end_to_run,
    enqueue,
    finish_awaitable,
    finish_class,
    fits,
    future_in_section,
    has_attributes,
    keep_no_spares,
    keep_spares,
    leave,
    leave_replacing,
    loop_field,
    loop_in_section,
    method,
    method_with_argument,
    new_class,
    new_waiter,
    own_or,
    recorder,
    send_to,
    sendfunc,
    serves,
    set_own,
    unset_own,
)

cdef extern from "_queue.h":
    int learn_deque(object) except -1
    int deque_append(object, object) except -1
    object deque_popleft(object)
    Py_ssize_t deque_length(object) except -1
    int make_result_type() except -1
    int reserve_result(Transfer) except -1
    void set_stop_iteration_item(PyObject*, Transfer) noexcept
    PyObject* take_spare_transfer() noexcept
    void keep_spare_transfer(object)

cdef extern from "_guard.h":
    object owned(PyObject*)
    bint has_weak_references(Transfer)
    void track_anew(Transfer) noexcept

cdef extern from *:
    """
    #define items_field(queue) (&(queue)->items)
    #define getters_field(queue) ((PyObject **)&(queue)->getters)
    #define putters_field(queue) ((PyObject **)&(queue)->putters)
    #define finished_field(queue) (&(queue)->finished)
    """
    PyObject** items_field(QueueCore)
    PyObject** getters_field(QueueCore)
    PyObject** putters_field(QueueCore)
    PyObject** finished_field(QueueCore)
    PyObject* Py_None
    PyObject* Py_NewRef(PyObject*)
    void Py_DECREF(PyObject*) noexcept
    int PyErr_WarnFormat(object category, Py_ssize_t stack_level, const char*, PyObject*) except -1
    object PyUnicode_FromFormat(const char*, object, object)

cdef object heappop = heapq.heappop
cdef object heappush = heapq.heappush

cdef type queue_class
cdef unsigned int FIELDS = INTERNALS | QUEUE  # what the functions look up that C serves

learn_deque(deque)
make_result_type()


@cython.no_gc_clear
cdef class Waiting(ParkingLot):
    """The getters or the putters that wait.

    Unlike a lock's waiter, one that is woken leaves the queue at once, so that all in it are
    parked. It may find that another task has taken the item or the free slot; then it parks again,
    behind all others.
    """

    cdef int hand_off(self, State state) except -1:
        return 0


cdef int wake_next(Waiting waiting) except -1:
    """Wake the first waiter that is not cancelled, if there is one."""
    cdef Waiter waiter
    cdef bint woken = False
    if waiting is None:
        return 0
    with cython.critical_section(waiting):
        while not woken and waiting.parked is not NULL:
            waiter = alive(waiting.parked)
            woken = waiting.wake(waiting.parked, None)
            if waiter is not None and waiter.state >= PARKED:
                waiter.index = woken
                forget(waiting, waiter)
    return 0


cdef int forget(Waiting waiting, Waiter waiter) except -1:
    future = waiter.future
    leave(waiter)
    if has_attributes(waiting):  # a pure-Python method has appended it
        attributes_of(waiting).get("_appended", {}).pop(future, None)
    return 0


cdef inline bint any_parked(Waiting waiting) noexcept:
    return waiting is not None and waiting.parked is not NULL


@cython.no_gc_clear
cdef class QueueCore(ParkingLot):
    cdef object items        # a deque or a list; None before the first
    cdef Waiting getters     # None before the first
    cdef Waiting putters
    cdef object finished     # the event that join() waits for; None before it is asked for
    cdef Py_ssize_t maxsize
    cdef Py_ssize_t unfinished
    cdef bint shut

    def __init__(self, *args, **kwargs):
        initialise_with(self, args, kwargs)

    # Invariant: while there is an item and a getter is parked, another getter was woken and has yet
    # to run: it takes the item, or wakes the next one. The same is true of free slots and putters.
    #
    # While `finished` is None, the event would be set exactly if `unfinished` is 0.

    _make_event = Event

    cdef object new_items(self):
        return deque()

    cdef Py_ssize_t size(self) except -1:
        return 0 if self.items is None else deque_length(self.items)

    cdef object take(self):
        return deque_popleft(self.items)

    cdef int add(self, object item) except -1:
        return deque_append(self.items, item)

    cdef bint holds(self, object items) noexcept:
        """Whether C can keep the items there."""
        return type(items) is deque

    @property
    @cython.critical_section
    def _queue(self):
        if self.items is None:
            self.items = self.new_items()
        return own_or(self, "_queue", self.items)

    @_queue.setter
    @cython.critical_section
    def _queue(self, items):
        _replaced = self.items  # freed after the change, since destructors may run code
        if self.holds(items):
            unset_own(self, "_queue")
            self.items = items
        else:
            set_own(self, "_queue", items)

    @_queue.deleter
    def _queue(self):
        delete_own(self, "_queue")

    @property
    def _getters(self):
        waiters = own_or(self, "_getters", self)
        return _shared.View(getters_of(self)) if waiters is self else waiters

    @_getters.setter
    def _getters(self, waiters):
        set_waiters(self, "_getters", waiters)

    @_getters.deleter
    def _getters(self):
        delete_own(self, "_getters")

    @property
    def _putters(self):
        waiters = own_or(self, "_putters", self)
        return _shared.View(putters_of(self)) if waiters is self else waiters

    @_putters.setter
    def _putters(self, waiters):
        set_waiters(self, "_putters", waiters)

    @_putters.deleter
    def _putters(self):
        delete_own(self, "_putters")

    @property
    def _finished(self):
        finished = own_or(self, "_finished", self)
        return event_of(self) if finished is self else finished

    @_finished.setter
    @cython.critical_section
    def _finished(self, finished):
        _replaced = self.finished  # freed after the change, as above
        if finished is None:
            set_own(self, "_finished", finished)
        else:
            unset_own(self, "_finished")
            self.finished = finished

    @_finished.deleter
    def _finished(self):
        delete_own(self, "_finished")

    @property
    @cython.critical_section
    def _maxsize(self):
        return own_or(self, "_maxsize", self.maxsize)

    @_maxsize.setter
    @cython.critical_section
    def _maxsize(self, maxsize):
        if fits(maxsize):
            unset_own(self, "_maxsize")
            self.maxsize = maxsize
        else:
            set_own(self, "_maxsize", maxsize)

    @_maxsize.deleter
    def _maxsize(self):
        delete_own(self, "_maxsize")

    @property
    @cython.critical_section
    def _unfinished_tasks(self):
        return own_or(self, "_unfinished_tasks", self.unfinished)

    @_unfinished_tasks.setter
    @cython.critical_section
    def _unfinished_tasks(self, unfinished):
        event_of(self)  # does not change with the number
        if fits(unfinished):
            unset_own(self, "_unfinished_tasks")
            self.unfinished = unfinished
        else:
            set_own(self, "_unfinished_tasks", unfinished)

    @_unfinished_tasks.deleter
    def _unfinished_tasks(self):
        delete_own(self, "_unfinished_tasks")

    @property
    @cython.critical_section
    def _is_shutdown(self):
        return own_or(self, "_is_shutdown", self.shut)

    @_is_shutdown.setter
    @cython.critical_section
    def _is_shutdown(self, value):
        if type(value) is bool:
            unset_own(self, "_is_shutdown")
            self.shut = value
        else:
            set_own(self, "_is_shutdown", value)

    @_is_shutdown.deleter
    def _is_shutdown(self):
        delete_own(self, "_is_shutdown")


cdef int set_waiters(QueueCore self, str name, object waiters) except -1:
    if type(waiters) is pure.Parked and not waiters and serves(self, queue_class, FIELDS):
        unset_own(self, name)
        with cython.critical_section(self):
            _replaced = self.getters, self.putters  # freed after the change, as above
            if name == "_getters":
                self.getters = None
            else:
                self.putters = None
    else:
        set_own(self, name, waiters)
    return 0


cdef Waiting getters_of(QueueCore self):
    if self.getters is None:
        self.getters = Waiting.__new__(Waiting)
    return self.getters


cdef Waiting putters_of(QueueCore self):
    if self.putters is None:
        self.putters = Waiting.__new__(Waiting)
    return self.putters


cdef object event_of(QueueCore self):
    if self.finished is None:
        finished = self._make_event()
        if self.unfinished == 0:
            finished.set()
        if self.finished is None:  # the calls may have run Python code
            self.finished = finished
    return self.finished


# ---- Methods that do not wait ----

cdef inline bint is_full(QueueCore self) except -1:
    return self.maxsize > 0 and self.size() >= self.maxsize


cdef inline int put_item(QueueCore self, object item) except -1:
    if self.shut:
        raise QueueShutDown
    if is_full(self):
        raise QueueFull
    if self.items is None:
        self.items = self.new_items()
    self.add(item)
    self.unfinished += 1
    if self.finished is not None:
        self.finished.clear()
    return wake_next(self.getters) if any_parked(self.getters) else 0


cdef inline object get_item(QueueCore self):
    if self.size() == 0:
        raise QueueShutDown if self.shut else QueueEmpty
    item = self.take()
    if any_parked(self.putters):
        wake_next(self.putters)
    return item


cdef object put_nowait(object self, object item):
    with cython.critical_section(self):
        put_item(<QueueCore> self, item)
    return None


cdef object get_nowait(object self):
    with cython.critical_section(self):
        return get_item(<QueueCore> self)


cdef object qsize(object self):
    with cython.critical_section(self):
        return (<QueueCore> self).size()


cdef object empty(object self):
    with cython.critical_section(self):
        return (<QueueCore> self).size() == 0


cdef object full(object self):
    with cython.critical_section(self):
        return is_full(<QueueCore> self)


cdef object task_done(object queue):
    cdef QueueCore self = queue
    with cython.critical_section(self):
        if self.unfinished <= 0:
            raise ValueError("task_done() called too many times")
        self.unfinished -= 1
        if self.unfinished == 0 and self.finished is not None:
            self.finished.set()
    return None


cdef object init(object self):
    return initialise(self, 0)


cdef object initialise(object queue, object maxsize):
    cdef QueueCore self = queue
    if not fits(maxsize) or not serves(self, queue_class, FIELDS):
        return pure.Queue.__init__(self, maxsize)
    with cython.critical_section(self):
        # Freed after the change, since destructors may run code.
        _replaced = self.items, self.getters, self.putters, self.finished
        self.items = self.getters = self.putters = self.finished = None
        self.maxsize = maxsize
        self.unfinished = 0
        self.shut = False


cdef int initialise_with(QueueCore self, tuple args, dict kwargs) except -1:
    if len(args) == 1 and not kwargs:
        initialise(self, args[0])
    elif not args and list(kwargs) == ["maxsize"]:
        initialise(self, kwargs["maxsize"])
    else:
        pure.Queue.__init__(self, *args, **kwargs)
    return 0


cdef object get_loop_of_queue(object self):
    with cython.critical_section(self):
        return loop_or_future(<QueueCore> self, False)


cdef object loop_or_future(QueueCore self, bint future):
    """In the section: the loop, or its future. A closed loop before it cannot wake waiters."""
    bound = self.loop
    found = future_in_section(self) if future else loop_in_section(self)
    if bound is not None and self.loop is not bound:
        for waiting in (self.getters, self.putters):
            if waiting is not None:
                discard_waiters(waiting)
        for name in ("_getters", "_putters") if has_attributes(self) else ():
            _shared.empty(attributes_of(self).get(name) or ())
    return found


# ---- put() and get() ----

cdef enum Phase:
    DONE
    UNSTARTED
    PARKING  # it has a waiter, which is parked, was woken, or was found cancelled

cdef enum Direction:
    GET
    PUT

cdef tuple QUALNAMES = ("Queue.get", "Queue.put")


@cython.final
@cython.no_gc_clear  # as for Waiter
@cython.trashcan(True)  # a long chain of items does not recurse
cdef class Transfer:
    """The awaitable that put() and get() return: a coroutine in all but its type, like Waiter."""
    cdef object __weakref__
    cdef QueueCore queue    # None once it is done
    cdef object item        # to put, or that was got and is returned next
    cdef Waiter waiter      # FINISHED if it is not in the queue: its index tells if it was woken
    cdef object future      # that the task waits on
    cdef object reserved    # a StopIteration for the item, where _queue.h has no spare one; or None
    cdef unsigned char shown[4]  # as Waiter's
    cdef Phase phase
    cdef Direction direction
    cdef int running        # a step runs: no other code or thread may begin one

    def __await__(self):
        if self.phase == PARKING:
            raise RuntimeError("coroutine is being awaited already")
        return self

    # As Waiter's: outside of any try statement, the raise returns NULL without an exception.
    def __next__(self):
        if self.direction == GET:
            reserve_result(self)
        if run(self) == NEXT:
            return self.future
        if self.item is not None:
            set_stop_iteration_item(take_item(self), self)
        raise StopIteration

    def send(self, value):
        """Resume, as a coroutine's send() does."""
        return send_to(self, value)

    def throw(self, typ, val=None, tb=None):
        """Raise an exception where this waits, as a coroutine's throw() does."""
        if not isinstance(typ, BaseException) or val is not None or tb is not None:
            typ = _shared.exception_to_throw(typ, val, tb)
        if not stop_unless_running(self):
            raise RuntimeError("cannot reuse already awaited coroutine")
        raise _shared.as_raised(typ)

    def close(self):
        """Stop waiting, as a coroutine's close() does."""
        stop_unless_running(self)

    # For _shared.COROUTINE_ATTRIBUTES:

    @property
    def _qualname(self):
        return QUALNAMES[self.direction]

    @property
    def _stage(self):
        if self.running:
            return "running"
        return ("closed", "created", "suspended")[self.phase]

    @property
    def _awaited(self):
        return self.future

    @property
    def _waiting_for(self):
        """As Waiter's."""
        queue = self.queue
        return None if self.phase != PARKING or queue is None else (queue, self.waiter.since)

    def __repr__(self):
        return PyUnicode_FromFormat("<coroutine object %S at %p>", self.__qualname__, self)

    # Like a coroutine's end, this wakes the task that waits on the future. So it comes before the
    # garbage collector clears that task, as __dealloc__() would not. The item stays: to deallocate
    # it here would recurse.
    def __del__(self):
        if self.phase == PARKING:
            item = self.item
            self.item = None
            stop(self)
            self.item = item

    def __dealloc__(self):
        if self.phase == UNSTARTED:
            qualname = QUALNAMES[self.direction]
            PyErr_WarnFormat(RuntimeWarning, 1, "coroutine '%U' was never awaited",
                             <PyObject*> qualname)


cdef inline object new_transfer(QueueCore queue, Direction direction, object item):
    cdef PyObject* spare = take_spare_transfer()
    cdef Transfer self
    if spare is not NULL and has_weak_references(<Transfer> spare):
        Py_DECREF(spare)  # they were made after it was kept
        spare = NULL
    if spare is NULL:
        self = Transfer.__new__(Transfer)
        self.shown[3] = NO_FRAME
    else:
        self = owned(spare)
    self.queue = queue
    self.item = item
    self.direction = direction
    self.phase = UNSTARTED
    return self


cdef inline PyObject* take_item(Transfer self) noexcept:
    """The item that was got. The caller owns the reference."""
    cdef PyObject* item = Py_NewRef(<PyObject*> self.item)
    self.item = None
    return item


cdef int refuse_to_run() except -1:
    raise ValueError("coroutine already executing")


cdef inline int run(Transfer self) except -1:
    """Run until there is a future to wait for, or the await is over."""
    if not begin_to_run(&self.running):
        refuse_to_run()
    try:
        return go_on(self)
    finally:
        end_to_run(&self.running)


cdef bint stop_unless_running(Transfer self) except -1:
    """Finish without a turn; return whether it was not finished already."""
    if not begin_to_run(&self.running):
        refuse_to_run()
    cdef bint stops = self.phase != DONE
    try:
        stop(self)
    finally:
        end_to_run(&self.running)
    return stops


cdef inline int go_on(Transfer self) except -1:
    cdef QueueCore queue = self.queue
    if self.phase != UNSTARTED:
        return resume(self)
    self.phase = DONE
    with cython.critical_section(queue):
        if must_wait(queue, self.direction):
            return park(self, queue)
        finish(self, queue)
    return keep_as_spare(self)


cdef inline int keep_as_spare(Transfer self) noexcept:
    if not has_weak_references(self):
        keep_spare_transfer(self)
    return RETURN


cdef inline bint must_wait(QueueCore queue, Direction direction) except -1:
    return queue.size() == 0 if direction == GET else is_full(queue)


cdef inline int finish(Transfer self, QueueCore queue) except -1:
    """Put or get without a wait, as the method does that does not wait."""
    self.queue = None
    if self.direction == GET:
        self.item = get_item(queue)
        return 0
    item = self.item
    self.item = None
    return put_item(queue, item)


cdef int park(Transfer self, QueueCore queue) except -1:
    """In the queue's critical section: wait for an item or a free slot, unless there is one now."""
    cdef Waiting waiting
    try:
        if queue.shut:
            raise QueueShutDown
        future = loop_or_future(queue, True)
        waiting = getters_of(queue) if self.direction == GET else putters_of(queue)
        if self.waiter is None:
            self.waiter = new_waiter(waiting, LOCK_ACQUIRE)
            self.waiter.state = FINISHED  # until it is parked
        # Check again: while other code ran to create these (the garbage collector can run any), the
        # reason to wait may have gone. Then nothing would wake this waiter.
        if queue.shut or not must_wait(queue, self.direction):
            if must_wait(queue, self.direction):
                raise QueueShutDown
            finish(self, queue)
            return RETURN
    except BaseException:
        self.queue = None
        self.item = None
        raise
    track_anew(self)
    self.waiter.primitive = waiting
    self.waiter.index = False
    self.future = future
    self.phase = PARKING
    with cython.critical_section(waiting):
        return enqueue(self.waiter, future)


cdef int resume(Transfer self) except -1:
    cdef QueueCore queue = self.queue
    cdef Waiter waiter = self.waiter
    if self.phase == DONE:
        raise RuntimeError("cannot reuse already awaited coroutine")
    if not waiter.index and not is_done(self):
        return NEXT
    end_wait(queue, waiter)
    self.phase = DONE
    self.future = None
    if not serves(queue, queue_class, FIELDS | QUEUE_NOWAIT):  # since it waited
        return go_on_in_python(self, queue)
    with cython.critical_section(queue):
        if must_wait(queue, self.direction):
            return park(self, queue)
        finish(self, queue)
    return keep_as_spare(self)


cdef int go_on_in_python(Transfer self, QueueCore queue) except -1:
    """As resume(), where C does not serve the queue any more."""
    cdef bint waits = queue.empty() if self.direction == GET else queue.full()
    if waits:
        with cython.critical_section(queue):
            return park(self, queue)
    item = self.item
    self.queue = None
    self.item = None
    if self.direction == GET:
        self.item = queue.get_nowait()
    else:
        queue.put_nowait(item)
    return RETURN


cdef int end_wait(QueueCore queue, Waiter waiter) except -1:
    cdef Waiting waiting
    if waiter.since != 0 and recorder is not NULL:
        recorder.waited(queue, waiter.since)
    if waiter.state >= PARKED:
        waiting = waiter.primitive
        with cython.critical_section(waiting):
            if waiter.state >= PARKED:
                forget(waiting, waiter)
    return 0


cdef bint is_done(Transfer self) except -1:
    """Whether a future that wake_next() has not set is done; raise if it has no result."""
    future = self.future
    try:
        if not future.done():
            if future._asyncio_future_blocking:
                raise RuntimeError("await wasn't used with future")
            future._asyncio_future_blocking = True
            return False
        future.result()
    except BaseException:
        stop(self)
        raise
    return True


cdef int stop(Transfer self) except -1:
    """Finish without a turn."""
    cdef QueueCore queue = self.queue
    cdef Phase phase = self.phase
    future = self.future
    self.phase = DONE
    self.queue = None
    self.item = None
    self.future = None
    if phase != PARKING:
        return 0
    cdef bint closed = future.get_loop().is_closed()
    if not closed:
        future.cancel()  # if close() or throw() ends the wait
    end_wait(queue, self.waiter)
    cdef bint woken = not closed and not future.cancelled()  # and cannot take its turn
    if not serves(queue, queue_class, FIELDS):  # since it waited
        return wake_another_in_python(queue, self.direction, woken, future)
    if woken:
        with cython.critical_section(queue):
            if not must_wait(queue, self.direction):
                wake_next(queue.getters if self.direction == GET else queue.putters)
    return 0


cdef int wake_another_in_python(
    QueueCore queue, Direction direction, bint woken, object future
) except -1:
    if has_attributes(queue):
        leave_replacing(queue, "_getters" if direction == GET else "_putters", future)
    if direction == GET:
        if not queue.empty() and woken:
            queue._wakeup_next(queue._getters)
    elif not queue.full() and woken:
        queue._wakeup_next(queue._putters)
    return 0


cdef int transfer_send(Transfer self, object value, PyObject** result) except -1:
    """am_send, as Waiter's."""
    result[0] = NULL
    if value is not None and self.phase == UNSTARTED:
        raise TypeError("can't send non-None value to a just-started coroutine")
    if run(self) == NEXT:
        result[0] = Py_NewRef(<PyObject*> self.future)
        return NEXT
    result[0] = take_item(self)
    return RETURN


finish_awaitable(Transfer, <sendfunc> transfer_send)


cdef object put(object self, object item):
    return new_transfer(<QueueCore> self, PUT, item)


cdef object get(object self):
    return new_transfer(<QueueCore> self, GET, None)


# ---- The queues that keep their items in a list ----

@cython.no_gc_clear
cdef class ListQueueCore(QueueCore):

    cdef object new_items(self):
        return []

    cdef Py_ssize_t size(self) except -1:
        return 0 if self.items is None else len(<list> self.items)

    cdef bint holds(self, object items) noexcept:
        return type(items) is list


@cython.no_gc_clear
cdef class LifoQueueCore(ListQueueCore):
    def __init__(self, *args, **kwargs):
        initialise_with(self, args, kwargs)

    cdef object take(self):
        return (<list> self.items).pop()

    cdef int add(self, object item) except -1:
        (<list> self.items).append(item)
        return 0


@cython.no_gc_clear
cdef class PriorityQueueCore(ListQueueCore):
    def __init__(self, *args, **kwargs):
        initialise_with(self, args, kwargs)

    cdef object take(self):
        return heappop(self.items)

    cdef int add(self, object item) except -1:
        heappush(self.items, item)
        return 0


queue_class = new_class(QueueCore, pure.Queue, (_internals.queues.Queue,))
Queue = queue_class
method(queue_class, pure.Queue, "_init", NULL, 0)
method(queue_class, pure.Queue, "_get", NULL, 0)
method(queue_class, pure.Queue, "_put", NULL, 0)
method(queue_class, pure.Queue, "_format", NULL, 0)
method(queue_class, pure.Queue, "_wakeup_next", NULL, 0)
method(queue_class, pure.Queue, "join", NULL, 0)
method(queue_class, pure.Queue, "shutdown", NULL, 0)
method(queue_class, pure.Queue, "qsize", qsize, FIELDS)
method(queue_class, pure.Queue, "empty", empty, FIELDS)
method(queue_class, pure.Queue, "full", full, FIELDS)
method_with_argument(queue_class, pure.Queue, "put", NULL, put, FIELDS | QUEUE_NOWAIT)
method_with_argument(queue_class, pure.Queue, "put_nowait", NULL, put_nowait, FIELDS)
method(queue_class, pure.Queue, "get", get, FIELDS | QUEUE_NOWAIT)
method(queue_class, pure.Queue, "get_nowait", get_nowait, FIELDS)
method(queue_class, pure.Queue, "task_done", task_done, FIELDS)
method(queue_class, pure.Queue, "_get_loop", get_loop_of_queue, 0)
method_with_argument(queue_class, pure.Queue, "__init__", init, initialise, FIELDS)
queue_class.maxsize = pure.Queue.maxsize
finish_class(queue_class)
construct_without_init(<PyTypeObject*> queue_class)
cdef QueueCore one = Queue()
keep_spares(
    one,
    [
        loop_field(one),
        items_field(one),
        getters_field(one),
        putters_field(one),
        finished_field(one),
    ],
    5,
)

cdef type list_queue_class(type core, type pure_class, type asyncios):
    """A class that differs from Queue in how it keeps its items."""
    cls = new_class(core, pure_class, (Queue, asyncios))
    method(cls, pure_class, "_init", NULL, 0)
    method(cls, pure_class, "_get", NULL, 0)
    method(cls, pure_class, "_put", NULL, 0)
    finish_class(cls)
    construct_without_init(<PyTypeObject*> cls)
    return cls


LifoQueue = list_queue_class(LifoQueueCore, pure.LifoQueue, _internals.queues.LifoQueue)
PriorityQueue = list_queue_class(
    PriorityQueueCore, pure.PriorityQueue, _internals.queues.PriorityQueue
)


def make_in_full(bint always):
    """As _lock's."""
    keep_no_spares(always)
