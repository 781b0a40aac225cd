"""Event, on the queue of _lock.pyx."""

cimport cython
from cpython.object cimport PyTypeObject

from aiofastlock import _internals
from aiofastlock._pure import event as pure

from aiofastlock._compiled._lock cimport (
    EVENT_WAIT,
    INTERNALS,
    ParkingLot,
    State,
    Waiter,
    construct_without_init,
    finish_class,
    get_loop,
    keep_spares,
    loop_field,
    method,
    new_waiter,
    own_or,
    set_own,
    unset_own,
)

AsyncioEvent = _internals.locks.Event


@cython.no_gc_clear
cdef class Event(ParkingLot, AsyncioEvent):
    cdef bint flag

    def __init__(self, *args, **kwargs):
        pure.Event.__init__(self, *args, **kwargs)

    cdef bint acquire_now(self, Waiter waiter) except -1:
        return self.flag

    cdef int acquire_woken(self, Waiter waiter) except -1:
        return 0

    cdef int hand_off(self, State state) except -1:
        return 0

    @property
    @cython.critical_section
    def _value(self):
        return own_or(self, "_value", self.flag)

    @_value.setter
    @cython.critical_section
    def _value(self, value):
        if type(value) is bool:
            unset_own(self, "_value")
            self.flag = value
        else:
            set_own(self, "_value", value)


cdef object is_set(object self):
    with cython.critical_section(self):
        return (<Event> self).flag


cdef object set_now(object event):
    cdef Event self = event
    with cython.critical_section(self):
        if not self.flag:
            self.flag = True
            try:
                while self.parked is not NULL:
                    self.wake(self.parked, True)
            except MemoryError:  # calling set() again wakes the rest
                self.flag = False
                raise


cdef object clear(object self):
    with cython.critical_section(self):
        (<Event> self).flag = False


cdef object wait(object self):
    return new_waiter(<Event> self, EVENT_WAIT)


cdef PyTypeObject* event_type = <PyTypeObject*> Event

method(event_type, pure.Event, "is_set", is_set, INTERNALS)
method(event_type, pure.Event, "set", set_now, INTERNALS)
method(event_type, pure.Event, "clear", clear, INTERNALS)
method(event_type, pure.Event, "wait", wait, INTERNALS)
method(event_type, pure.Event, "_get_loop", get_loop, 0)
method(event_type, pure.Event, "__init__", clear, INTERNALS)  # called again, it clears the event
finish_class(event_type, pure.Event, "aiofastlock.Event")
construct_without_init(event_type)
cdef Event one = Event()
keep_spares(event_type, one, loop_field(one), NULL)
