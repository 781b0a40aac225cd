from cpython.object cimport PyObject


cdef enum State:
    FINISHED  # never made by a lot, or done with for good
    CREATED   # nothing has been awaited yet
    PARKED    # in the queue, its turn still to come
    WOKEN     # in the queue, its future set, so that a turn is on its way to it


cdef enum Verb:
    ACQUIRE
    ENTER
    EXIT


cdef class ParkingLot:
    cdef object __weakref__
    cdef dict __dict__
    cdef public object _loop       # the loop that its waiters wait on, None before the first
    cdef PyObject* head            # who came first; a ring, so head.prev came last. Borrowed
    cdef PyObject* parked          # the first that is not settled, NULL if all are. Borrowed
    cdef unsigned int count        # how many are in the queue
    cdef unsigned int woken        # how many of them are WOKEN

    cdef bint take(self) except -1
    cdef int give(self) except -1
    cdef int admit(self) except -1
    cdef int forgo(self) except -1

    cdef int find_parked(self) except -1
    cdef bint any_live(self) except -1
    cdef int wake(self, Waiter waiter) except -1


cdef class Waiter:
    cdef ParkingLot lot            # None once finished, unless take() or give() raised
    cdef object future             # what the task waits on, None unless parked or woken
    cdef PyObject* prev            # in the lot's queue, borrowed
    cdef PyObject* next
    cdef State state
    cdef Verb verb


cdef class Lock(ParkingLot):
    cdef bint held
