from cpython.object cimport PyObject, PyTypeObject


cdef extern from "_class.h":
    void drop_attributes(ParkingLot)
    bint has_attributes(ParkingLot)
    bint is_plain(ParkingLot)
    ctypedef object (*vectorcallfunc)(PyObject*, PyObject**, size_t, PyObject*)
    int finish_public_class(PyTypeObject*, const char* name) except -1
    int set_exit(PyTypeObject*, pure, vectorcallfunc) except -1
    PyObject* simple_exit_of(PyObject*, PyObject**, size_t, PyObject*) noexcept
    object exit_by_method(PyObject*, PyObject**, size_t, PyObject*)
    void construct_without_init(PyTypeObject*)
    void keep_spares(PyTypeObject*, object one, PyObject** loop, PyObject** other)
    PyObject** loop_field(ParkingLot)

# With the lot's critical section held, in free-threaded builds; else as if it were not there.
cdef extern from "_guard.h":
    enum: AIOFASTLOCK_DEBUG
    Waiter alive(PyObject*)  # None if it is dying
    int operate "locked"(int (*)(ParkingLot) except -1, ParkingLot) except -1
    bint begin_to_run(int* running) noexcept
    void end_to_run(int* running) noexcept
    int lot_locked(int (*)(Waiter) except -1, Waiter) except -1
    int lot_locked_to_read "lot_locked"(int (*)(Waiter) noexcept, Waiter) noexcept
    object future_of_waiter(Waiter)


# What a step of an await comes to, as am_send says it.
cdef enum:
    RETURN = 0
    NEXT = 1


cdef enum State:
    FINISHED  # never made by a lot, or done with for good
    CREATED   # nothing has been awaited yet
    PARKED    # in the queue, its turn still to come
    PASSED    # in the queue, found to be cancelled: its turn will never come
    WOKEN     # in the queue, its future set, so that a turn is on its way to it


cdef enum Call:
    LOCK_ACQUIRE
    SEMAPHORE_ACQUIRE
    EVENT_WAIT
    BARRIER_WAIT
    BARRIER_ENTER
    ENTER
    BARRIER_RESET
    BARRIER_ABORT
    BARRIER_EXIT
    EXIT
    FIRST_TO_GIVE_INDEX = BARRIER_WAIT
    FIRST_TO_GIVE_NONE = ENTER
    FIRST_TO_END = BARRIER_RESET  # they give() and never wait


cdef class ParkingLot:
    cdef object __weakref__
    cdef dict __dict__
    cdef object loop               # that its waiters wait on, None before the first
    cdef PyObject* head            # who came first; a ring, so head.prev came last. Borrowed
    cdef PyObject* parked          # the first that is PARKED, NULL if none is. Borrowed
    cdef unsigned int count        # how many are in the queue
    cdef unsigned int woken        # how many of them are WOKEN

    cdef bint take(self, Waiter waiter) except -1
    cdef int give(self, Waiter waiter) except -1
    cdef int admit(self, Waiter waiter) except -1
    cdef int forgo(self, State state) except -1

    cdef bint settle_if_done(self, PyObject* parked) except -1
    cdef bint any_live(self) except -1
    cdef bint wake(self, PyObject* parked, object result) except -1


cdef class Waiter:
    cdef ParkingLot lot            # None in a spare one
    cdef object future             # what the task waits on, None unless parked or woken
    cdef PyObject* prev            # in the lot's queue, borrowed
    cdef PyObject* next
    cdef Py_ssize_t index          # what it gives, if that is a barrier's index
    cdef State state
    cdef Call call


cdef inline int read_state(Waiter waiter) noexcept:
    return waiter.state


cdef inline State state_of(Waiter waiter) noexcept:
    return <State> lot_locked_to_read(read_state, waiter)


cdef inline int give_back(ParkingLot lot) except -1:
    return lot.give(None)


cdef object new_waiter(ParkingLot lot, Call call)
cdef object future_to_yield(ParkingLot lot)
cdef int stand(Waiter waiter, object future) noexcept
cdef int step(Waiter waiter) except -1
cdef object send_to(object awaitable, object value)
cdef int abandon(Waiter waiter) except -1
cdef void leave(Waiter waiter) noexcept
cdef object exit_if_plain(PyObject* exit, PyObject** args, size_t nargsf, PyObject* names)
cdef bint is_own(ParkingLot lot, str name) except -1
cdef bint is_closed(object loop) except -1
cdef int call_with_lot(ParkingLot lot, object callback) except -1
cdef int let_go(ParkingLot lot) except -1


cdef class ContextManager(ParkingLot):
    pass


cdef class Lock(ContextManager):
    cdef bint held
