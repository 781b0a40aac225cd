from cpython.object cimport PyObject


cdef enum State:
    FINISHED  # never made by a lot, or done with for good
    CREATED   # nothing has been awaited yet
    PARKED    # in the queue; wake() has not set its future
    WOKEN     # in the queue; wake() has set its future, so a turn is on its way to it


cdef enum Verb:
    ACQUIRE
    ENTER
    EXIT


cdef class ParkingLot:
    cdef object __weakref__
    cdef dict __dict__
    cdef public object _loop       # the loop that its waiters wait on, None before the first
    cdef PyObject* head            # the queue in order of arrival; these Waiters are borrowed
    cdef PyObject* tail
    cdef PyObject* first_live      # every waiter before this one has a cancelled future
    cdef unsigned int count
    cdef bint flag                 # the primitive's own, here to fill the gap behind count

    cdef bint take(self) except -1
    cdef int give(self) except -1
    cdef int admit(self) except -1
    cdef int forgo(self) except -1

    cdef bint any_live(self) except -1
    cdef int wake(self, Waiter waiter) except -1


cdef class Waiter:
    cdef ParkingLot lot            # None when finished
    cdef object future             # what the task waits on, None unless parked or woken
    cdef PyObject* prev            # in the lot's queue, borrowed
    cdef PyObject* next
    cdef State state
    cdef Verb verb


cdef class Lock(ParkingLot):
    pass
