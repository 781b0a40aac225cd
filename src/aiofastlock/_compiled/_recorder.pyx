"""Records who holds what and since when, for aiofastlock.watch.

The pure-Python recorder says what each function does. While this one records, methods of the
primitives that can be held are replaced in the tables of C methods: nothing is slower while it does
not. The core calls the functions of `hooks`.
"""

from cpython.object cimport PyObject
from libc.stdint cimport uint32_t, uint64_t

import sys
import time

from aiofastlock import _shared
from aiofastlock._compiled import (
    _condition, _event, _keyed, _lock, _queue, _rwlock, _semaphore,
)
from aiofastlock._pure import recorder as pure

from aiofastlock._compiled._lock cimport (
    CONDITION_WAIT,
    ENTER,
    EXIT,
    READER_ENTER,
    WRITER_ENTER,
    ParkingLot,
    Recorder,
    Waiter,
    own_or,
    set_recorder,
)

cdef extern from "_recorder.h":
    enum: HELD, STRUCTURED, RELEASED_BY_OTHERS
    ctypedef struct Counters:
        PyObject* place
        int kind
        uint32_t longest_wait, longest_hold
        uint64_t made, acquired, waited, total_wait, total_hold
    ctypedef struct Hold "Hold":
        PyObject* holder
        uint32_t since, flags
    ctypedef struct Copy:
        Counters counters
        uint32_t flags
        size_t count
        Hold holds[1]
    enum: OWN_COUNTERS
    uint64_t clock_began
    PyObject* current_task
    uint64_t clock_now() noexcept
    uint32_t milliseconds() noexcept
    PyObject* task_of(PyObject* holder) noexcept
    PyObject* running_task() noexcept
    bint record_acquired(PyObject*, bint is_lock, bint structured) noexcept
    bint record_released(PyObject*, bint is_lock, bint exits) noexcept
    void record_others(PyObject*) noexcept
    bint record_waited(PyObject*, uint32_t since) noexcept
    void record_made(PyObject*, Counters*) noexcept
    bint is_held(PyObject*) noexcept
    void forget(PyObject*) noexcept
    void open_table() noexcept
    void close_table() noexcept
    Copy* copy_record(PyObject*) noexcept
    void free_copy(Copy*) noexcept
    list recorded_primitives()

cdef extern from "_guard.h":
    object owned(PyObject*)

cdef extern from *:
    """
    typedef struct __pyx_vtabstruct_11aiofastlock_9_compiled_5_lock_ParkingLot Methods;
    #define methods_of(primitive) ((Methods *)(primitive)->__pyx_vtab)
    """
    void Py_INCREF(PyObject*) noexcept
    ctypedef struct Methods:
        bint (*acquire_now)(ParkingLot, Waiter) except -1
        int (*acquire_woken)(ParkingLot, Waiter) except -1
        int (*release_now)(ParkingLot, Waiter) except -1
        bint (*acquire_idle)(ParkingLot) noexcept
        bint (*release_idle)(ParkingLot) noexcept
    Methods* methods_of(ParkingLot) noexcept

# ---- Kinds, and what is counted of them ----

cdef tuple KINDS = pure.KINDS
cdef enum: MOST_KINDS = 16
cdef Counters NOTHING_COUNTED
cdef Counters of_kind[MOST_KINDS]  # of the primitives that were made before the recording
cdef dict places = {}  # Counted, by kind and place


cdef class Counted:
    """What is counted of the primitives of one kind that are made at one place."""
    cdef object place
    cdef Counters counters


cdef int kind_of(object primitive) except -1:
    """The index of its class, or -2 for what is no public class."""
    for i, kind in enumerate(KINDS):
        if isinstance(primitive, kind):
            return i
    return -2


cdef int make_record(ParkingLot primitive) except -1:
    """Record a primitive that was made before the recording."""
    cdef int kind = kind_of(primitive)
    if kind < 0:
        return 0
    of_kind[kind].kind = kind
    record_made(<PyObject*> primitive, &of_kind[kind])
    return 0


# ---- Called by the core ----

cdef int on_made(ParkingLot primitive) except -1:
    cdef int kind = kind_of(primitive)
    if kind < 0:
        return 0
    frame = sys._getframe()
    if pure.is_of_queue(frame):
        return 0
    place = pure.place_of(primitive, frame)
    cdef Counted counted = places.get((kind, place))
    if counted is None:
        counted = places[kind, place] = Counted.__new__(Counted)
        counted.place = place
        counted.counters.place = <PyObject*> place
        counted.counters.kind = kind
    record_made(<PyObject*> primitive, &counted.counters)
    return 0


cdef int before_parking(Waiter waiter) except -1:
    # wait() of a condition does not end before it has acquired the lock again.
    if waiter.call != CONDITION_WAIT:
        check_holders(waiter.primitive)
    return 0


cdef int check_holders(object primitive) except -1:
    cdef Copy* copy
    cdef size_t i
    cdef bint blocked = False
    if not is_held(<PyObject*> primitive):
        return 0
    copy = copy_record(<PyObject*> primitive)
    if copy is NULL:
        return 0
    try:
        for i in range(copy.count):
            blocked = blocked or not may_release(copy.holds[i].holder)
    finally:
        free_copy(copy)
    if blocked:
        on_parking(primitive)
    return 0


cdef bint may_release(PyObject* holder) except -1:
    """Whether a holder is ready to run, or none that is known."""
    cdef PyObject* running
    cdef PyObject* found
    if holder is NULL:
        return True
    found = task_of(holder)
    if found is NULL:
        return False
    task = owned(found)
    running = running_task()
    current = owned(running) if running is not NULL else None
    waits_on = getattr(task, "_fut_waiter", None)
    return task is not current and waits_on is None and not task.done()


cdef void on_waited(ParkingLot primitive, unsigned int since) noexcept:
    if not record_waited(<PyObject*> primitive, since):
        make_record(primitive)
        record_waited(<PyObject*> primitive, since)


cdef void on_released(PyObject* semaphore) noexcept:
    if record_released(semaphore, False, False):
        record_others(semaphore)


cdef Recorder hooks
hooks.made = on_made
hooks.deallocated = forget
hooks.parking = before_parking
hooks.now = milliseconds
hooks.waited = on_waited
hooks.released = on_released


# ---- In the place of the methods that acquire and release ----

cdef enum: HELD_KINDS = 4
cdef tuple examples = (
    _lock.Lock(),
    _semaphore.Semaphore(),
    _semaphore.BoundedSemaphore(),
    _rwlock.RWLock()._turns,
    # Their methods are not replaced: they call those of their base classes.
    _keyed.KeyedLock()[None],
    _keyed.KeyedSemaphore(1)[None],
)
cdef size_t base_classes[6]
base_classes[:] = [0, 1, 2, 3, 0, 2]
cdef Methods* tables[6]  # of their classes
cdef Methods originals[HELD_KINDS]
cdef enum: LOCK = 0  # first: it is used most


cdef inline size_t table_of(ParkingLot primitive) noexcept:
    cdef size_t table = 0
    while tables[table] is not methods_of(primitive):
        table += 1
    return base_classes[table]


cdef inline int note_acquired(ParkingLot primitive, bint is_lock, bint structured) except -1:
    if not record_acquired(<PyObject*> primitive, is_lock, structured):
        make_record(primitive)
        record_acquired(<PyObject*> primitive, is_lock, structured)
    if on_acquired is not None:
        on_acquired(primitive)
    return 0


cdef inline bint is_structured(Waiter waiter) noexcept:
    """Whether it acquires for `async with`, or for a condition's wait(), as it was before."""
    return (
        waiter is None or waiter.call == ENTER or waiter.call == CONDITION_WAIT
        or waiter.call == READER_ENTER or waiter.call == WRITER_ENTER
    )


cdef bint acquire_now(ParkingLot primitive, Waiter waiter) except -1:
    cdef size_t table = table_of(primitive)
    cdef bint acquired = originals[table].acquire_now(primitive, waiter)
    if acquired:
        note_acquired(primitive, table == LOCK, is_structured(waiter))
    return acquired


cdef int acquire_woken(ParkingLot primitive, Waiter waiter) except -1:
    cdef size_t table = table_of(primitive)
    originals[table].acquire_woken(primitive, waiter)
    note_acquired(primitive, table == LOCK, is_structured(waiter))
    return 0


cdef int release_now(ParkingLot primitive, Waiter waiter) except -1:
    cdef size_t table = table_of(primitive)
    cdef bint exits = waiter is not None and waiter.call == EXIT
    # First: other code may acquire it before the method returns.
    cdef bint by_others = record_released(<PyObject*> primitive, table == LOCK, exits)
    originals[table].release_now(primitive, waiter)
    if by_others:  # and it did not raise
        record_others(<PyObject*> primitive)
    return 0


cdef bint never_idle(ParkingLot primitive) noexcept:
    """In the place of acquire_idle() and release_idle(): the caller goes on with the others."""
    return False


# ---- The interface, as that of pure ----

AWAITABLES = (_lock.Waiter, _condition.Wait, _queue.Transfer)

on_parking = on_acquired = None


def start(parking, acquired=None):
    """As pure.start()."""
    global on_parking, on_acquired, clock_began, current_task
    on_parking, on_acquired = parking, acquired
    pure.on_parking, pure.on_acquired = parking, acquired
    if _shared.recorder is not None:
        return
    if clock_began == 0:
        clock_began = clock_now()
    cdef size_t i
    task_now = sys.modules["asyncio.tasks"].current_task
    Py_INCREF(<PyObject*> task_now)
    current_task = <PyObject*> task_now
    for i in range(6):
        tables[i] = methods_of(<ParkingLot> examples[i])
    for i in range(HELD_KINDS):
        originals[i] = tables[i][0]
        tables[i].acquire_now = acquire_now
        tables[i].acquire_woken = acquire_woken
        tables[i].release_now = release_now
        tables[i].acquire_idle = tables[i].release_idle = never_idle
    for module in (_condition, _event, _keyed, _lock, _queue):
        module.make_in_full(True)
    open_table()
    set_recorder(&hooks)
    _shared.recorder = sys.modules[__name__]


def stop():
    """As pure.stop()."""
    cdef size_t i
    _shared.recorder = None
    set_recorder(NULL)
    for i in range(HELD_KINDS):
        tables[i][0] = originals[i]
    for module in (_condition, _event, _keyed, _lock, _queue):
        module.make_in_full(False)
    close_table()
    places.clear()
    for i in range(MOST_KINDS):
        of_kind[i] = NOTHING_COUNTED
    pure.stop()


# The pure-Python functions call these, for a compiled primitive that C does not serve, and for
# primitives of the pure-Python implementation, if a program uses both.


def made(primitive):
    if not isinstance(primitive, ParkingLot):  # else the core has called on_made()
        pure.made(primitive)


def parking(primitive, future):
    if not isinstance(primitive, ParkingLot):
        return pure.parking(primitive, future)
    check_holders(primitive)
    pure.since[future] = time.monotonic()


def left(primitive, future):
    if not isinstance(primitive, ParkingLot):
        return pure.left(primitive, future)
    began = pure.since.pop(future, None)
    # Else the core has the queue, and calls on_waited().
    if began is not None and own_or(primitive, queue_of(primitive), None) is not None:
        on_waited(primitive, milliseconds_at(began))


def acquired(primitive):
    if not isinstance(primitive, ParkingLot):
        return pure.acquired(primitive)
    note_acquired(primitive, isinstance(primitive, _lock.Lock), False)


def released(primitive):
    if not isinstance(primitive, ParkingLot):
        return pure.released(primitive)
    if record_released(<PyObject*> primitive, isinstance(primitive, _lock.Lock), False):
        record_others(<PyObject*> primitive)


cdef str queue_of(object primitive):
    """The attribute that has what waits, if the core has not."""
    return "_getters" if isinstance(primitive, _queue.Queue) else "_waiters"


cdef uint32_t milliseconds_at(double began):
    """A time of the recorder's clock. It is never 0."""
    return (milliseconds() - <uint32_t> ((time.monotonic() - began) * 1000)) | 1


cdef double seconds_at(uint32_t since):
    """A time of time.monotonic()."""
    return time.monotonic() - seconds(milliseconds() - since)


cdef double seconds(uint64_t milliseconds):
    return milliseconds / 1000.0


def holders(primitive):
    """As pure.holders()."""
    cdef Copy* copy
    cdef size_t i
    cdef PyObject* found
    cdef list result = []
    if not isinstance(primitive, ParkingLot):
        return pure.holders(primitive)
    if isinstance(primitive, _lock.Lock) and not primitive._locked:
        return result
    copy = copy_record(<PyObject*> primitive)
    if copy is NULL:
        return result
    try:
        for i in range(copy.count):
            found = NULL if copy.holds[i].holder is NULL else task_of(copy.holds[i].holder)
            gone = copy.holds[i].holder is not NULL and found is NULL
            result.append(pure.Hold(
                primitive,
                owned(found) if found is not NULL else None,
                seconds_at(copy.holds[i].since),
                bool(copy.holds[i].flags & STRUCTURED),
                gone,
            ))
    finally:
        free_copy(copy)
    return result


def holds():
    """As pure.holds()."""
    held = [primitive for primitive in recorded_primitives() if is_held(<PyObject*> primitive)]
    return pure.holds() + [hold for primitive in held for hold in holders(primitive)]


def missed(primitive):
    """As pure.missed()."""
    return made_at(primitive) is None and pure.is_held_more(primitive, len(holders(primitive)))


def released_by_others(primitive):
    """As pure.released_by_others()."""
    if not isinstance(primitive, ParkingLot):
        return pure.released_by_others(primitive)
    cdef Copy* copy = copy_record(<PyObject*> primitive)
    cdef bint others = copy is not NULL and copy.flags & RELEASED_BY_OTHERS
    free_copy(copy)
    return others


def waited(awaitable):
    """As pure.waited()."""
    if type(awaitable) not in AWAITABLES:
        return pure.waited(awaitable)
    found = awaitable._waiting_for
    if found is None:
        return None
    primitive, since = found
    return primitive, seconds_at(since) if since else None


def writes(awaitable):
    """As pure.writes()."""
    return awaitable._writes if type(awaitable) in AWAITABLES else pure.writes(awaitable)


def made_at(primitive):
    """As pure.made_at()."""
    if not isinstance(primitive, ParkingLot):
        return pure.made_at(primitive)
    cdef Copy* copy = copy_record(<PyObject*> primitive)
    place = <object> copy.counters.place if copy is not NULL and copy.counters.place else None
    free_copy(copy)
    return place


def counters():
    """As pure.counters(). Primitives made before the recording are counted together, as None, until
    somebody waits for one.
    """
    cdef Copy* copy
    cdef Counted of_place
    cdef list result = pure.counters()
    cdef size_t i
    for primitive in recorded_primitives():
        copy = copy_record(<PyObject*> primitive)
        if copy is not NULL and copy.flags & OWN_COUNTERS:
            result.append(row(primitive, copy.counters))
        free_copy(copy)
    for of_place in places.values():
        result.append(row(of_place.place, of_place.counters))
    for i in range(MOST_KINDS):
        if of_kind[i].made:
            result.append(row(None, of_kind[i]))
    return result


cdef tuple row(object key, Counters counters):
    cdef int kind = counters.kind
    return (
        key,
        KINDS[kind].__name__,
        counters.made,
        counters.acquired,
        counters.waited,
        seconds(counters.total_wait),
        seconds(counters.longest_wait),
        seconds(counters.total_hold),
        seconds(counters.longest_hold),
    )
