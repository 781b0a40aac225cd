from cpython.object cimport PyObject, PyTypeObject
from cpython.pyport cimport PY_SSIZE_T_MAX, PY_SSIZE_T_MIN


cdef extern from "_class.h":
    void drop_attributes(ParkingLot)
    bint has_attributes(ParkingLot)
    dict attributes_of(ParkingLot)
    enum:
        ACQUIRE
        RELEASE
        LOCKED
        WAIT
        INTERNALS
        QUEUE
        QUEUE_NOWAIT
    void construct_without_init(PyTypeObject*)
    void keep_spares(object one, PyObject*** fields, int number)
    void keep_no_spares(bint) noexcept
    PyObject** loop_field(ParkingLot)

# These enter a critical section in free-threaded builds, and in others do nothing beside the call.
cdef extern from "_guard.h":
    enum: AIOFASTLOCK_DEBUG
    Waiter alive(PyObject*)  # None if another thread is deallocating it
    int in_section "in_section"(int (*)(ParkingLot) except -1, ParkingLot) except -1
    bint begin_to_run(int* running) noexcept
    void end_to_run(int* running) noexcept
    bint claim(Waiter) noexcept  # make it FINISHED if it is CREATED; return whether it was
    int in_section_of_claimed(int (*)(Waiter) except -1, Waiter) except -1
    enum: NOT_QUEUED
    int in_section_of_queue(int (*)(Waiter) except -1, Waiter) except -1  # or NOT_QUEUED
    object future_of_waiter(Waiter)
    object queue_of_waiter(Waiter)  # the primitive in whose queue it is, or None

# Numbers that are read or written outside of the critical section, too.
cdef extern from "_guard.h":
    enum: FREE_THREADED
    ctypedef int shared_int
    ctypedef Py_ssize_t shared_ssize
    int load_int(shared_int*) noexcept
    void store_int(shared_int*, int) noexcept
    Py_ssize_t load_ssize(shared_ssize*) noexcept
    void store_ssize(shared_ssize*, Py_ssize_t) noexcept
    PyObject* pointer_in(PyObject**) noexcept
    void store_pointer(PyObject**, PyObject*) noexcept


# A method in C, as the interpreter calls it if nothing is overridden that it would look up.
ctypedef object (*fast_method)(object self)
ctypedef object (*fast_method_with_argument)(object self, object argument)


# What a coroutine has at the place of `shown[3]` if it has no frame: from outside of the process,
# nobody can see that a task's coroutine is none of Python's.
cdef extern from *:
    """
    /* CPython's FRAME_CLEARED, from 3.14 on. */
    #define NO_FRAME (PY_VERSION_HEX >= 0x030F0000 ? 5 : 4)
    """
    enum: NO_FRAME


# How a step of an await ends, as am_send returns it.
cdef enum:
    RETURN = 0
    NEXT = 1


cdef extern from "_guard.h":
    ctypedef enum State:
        FINISHED
        CREATED
        PARKED
        CANCELLED
        WOKEN


cdef enum Call:
    LOCK_ACQUIRE
    SEMAPHORE_ACQUIRE
    EVENT_WAIT
    CONDITION_WAIT
    READER_ACQUIRE
    WRITER_ACQUIRE
    BARRIER_WAIT
    BARRIER_ENTER
    ENTER
    READER_ENTER
    WRITER_ENTER
    BARRIER_RESET
    BARRIER_ABORT
    BARRIER_EXIT
    EXIT
    READER_EXIT
    WRITER_EXIT
    FIRST_TO_RETURN_INDEX = BARRIER_WAIT
    FIRST_TO_RETURN_NONE = ENTER
    FIRST_TO_RELEASE = BARRIER_RESET  # these never wait


cdef class ParkingLot:
    cdef object __weakref__
    cdef dict __dict__
    cdef object loop               # that its waiters wait on, None before the first
    cdef PyObject* head            # the first waiter, in a ring: head.prev is the last. Borrowed
    cdef PyObject* parked          # the first PARKED one, or NULL. Borrowed
    cdef unsigned int count        # of waiters in the queue
    cdef unsigned int woken        # of those that are WOKEN

    cdef bint acquire_now(self, Waiter waiter) except -1
    cdef int release_now(self, Waiter waiter) except -1
    cdef int acquire_woken(self, Waiter waiter) except -1
    cdef int hand_off(self, State state) except -1
    cdef void take_back(self) noexcept
    cdef bint acquire_idle(self) noexcept
    cdef bint release_idle(self) noexcept

    cdef bint settle_if_done(self, PyObject* parked) except -1
    cdef bint any_live(self) except -1
    cdef bint wake(self, PyObject* parked, object result) except -1


cdef class Waiter:
    cdef object __weakref__
    cdef ParkingLot primitive            # None in a spare one
    cdef object future             # that the task waits on; None unless in the queue
    cdef PyObject* prev            # in the primitive's queue. Borrowed
    cdef PyObject* next
    cdef Py_ssize_t index          # that a barrier's wait() returns
    cdef unsigned char shown[4]    # to `python -m asyncio ps`, which takes this for a coroutine
    cdef shared_int state          # a State
    cdef Call call
    cdef unsigned int since        # when it began to wait, in milliseconds; 0: that is not recorded


# What records who holds what. It sees a waiter before that joins the queue, and after it has left.
cdef struct Recorder:
    int (*made)(ParkingLot primitive) except -1
    void (*deallocated)(PyObject* primitive) noexcept
    int (*parking)(Waiter waiter) except -1  # if it raises, the waiter does not wait
    unsigned int (*now)() noexcept
    void (*waited)(ParkingLot primitive, unsigned int since) noexcept
    void (*released)(PyObject* semaphore) noexcept  # not by its method release_now()


cdef Recorder* recorder  # NULL unless it records
cdef void set_recorder(Recorder*) noexcept


cdef inline State state_of(Waiter waiter) noexcept:
    return <State> load_int(&waiter.state)


cdef inline bint is_idle(ParkingLot primitive) noexcept:
    return pointer_in(&primitive.head) is NULL


cdef inline bint fits(object value) except -1:
    """Whether a field can have the value."""
    return type(value) is int and PY_SSIZE_T_MIN <= value <= PY_SSIZE_T_MAX


cdef inline int release_primitive(ParkingLot primitive) except -1:
    return primitive.release_now(None)


cdef object new_waiter(ParkingLot primitive, Call call)
cdef object future_to_yield(ParkingLot primitive)
cdef object future_in_section(ParkingLot primitive)
cdef object loop_in_section(ParkingLot primitive)
cdef int enqueue(Waiter waiter, object future) noexcept
cdef int step(Waiter waiter) except -1
cdef void set_stop_iteration_true() noexcept
cdef object send_to(object awaitable, object value)
ctypedef int (*sendfunc)(object, object, PyObject**) except -1
cdef int finish_awaitable(type cls, sendfunc send) except -1
cdef int abandon(Waiter waiter) except -1
cdef void leave(Waiter waiter) noexcept
cdef int leave_replacing(ParkingLot primitive, str name, object future) except -1
cdef object own_or(ParkingLot primitive, str name, object value)
cdef int set_own(ParkingLot primitive, str name, object value) except -1
cdef int delete_own(ParkingLot primitive, str name) except -1
cdef int unset_own(ParkingLot primitive, str name) except -1
cdef type new_class(type core, type pure_class, tuple bases)
cdef int method(
    type cls, type pure_class, str name, fast_method fast, unsigned int mask
) except -1
cdef int method_with_argument(
    type cls, type pure_class, str name, fast_method fast,
    fast_method_with_argument with_argument, unsigned int mask
) except -1
cdef int exit_method(type cls, type pure_class, fast_method fast, unsigned int mask) except -1
cdef int finish_class(type cls) except -1
cdef object try_acquire(object self)
cdef int try_to_acquire(ParkingLot primitive) except -1
cdef object enter(object self)
cdef object exit(object self)
cdef object get_loop(object self)
cdef bint is_plain_lock(object lock) noexcept
cdef bint is_served_lock(object lock) noexcept
cdef bint serves(object self, type cls, unsigned int mask) noexcept
cdef bint is_closed(object loop) except -1
cdef int call_soon_with(ParkingLot primitive, object callback) except -1
cdef int discard_waiters(ParkingLot primitive) except -1
cdef bint unbind_if_closed(ParkingLot primitive) except -1


cdef class ContextManager(ParkingLot):
    pass


cdef class LockCore(ContextManager):
    cdef shared_int held
