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
    delete_own,
    finish_class,
    get_loop,
    keep_no_spares,
    keep_spares,
    load_int,
    loop_field,
    method,
    new_class,
    new_waiter,
    own_or,
    set_own,
    shared_int,
    unset_own,
)


@cython.no_gc_clear
cdef class EventCore(ParkingLot):
    cdef shared_int flag

    def __init__(self, *args, **kwargs):
        pure.Event.__init__(self, *args, **kwargs)

    cdef bint acquire_now(self, Waiter waiter) except -1:
        return self.flag

    cdef bint acquire_idle(self) noexcept:
        return load_int(&self.flag)

    cdef int acquire_woken(self, Waiter waiter) except -1:
        return 0

    cdef int hand_off(self, State state) except -1:
        return 0

    @property
    @cython.critical_section
    def _value(self):
        return own_or(self, "_value", <bint> self.flag)

    @_value.setter
    @cython.critical_section
    def _value(self, value):
        if type(value) is bool:
            unset_own(self, "_value")
            self.flag = value
        else:
            set_own(self, "_value", value)

    @_value.deleter
    def _value(self):
        delete_own(self, "_value")


cdef object is_set(object self):
    return <bint> load_int(&(<EventCore> self).flag)


cdef object set_now(object event):
    cdef EventCore self = event
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
        (<EventCore> self).flag = False


cdef object wait(object self):
    return new_waiter(<EventCore> self, EVENT_WAIT)


cdef type event_class = new_class(EventCore, pure.Event, (_internals.locks.Event,))
Event = event_class
method(event_class, pure.Event, "is_set", is_set, INTERNALS)
method(event_class, pure.Event, "set", set_now, INTERNALS)
method(event_class, pure.Event, "clear", clear, INTERNALS)
method(event_class, pure.Event, "wait", wait, INTERNALS)
method(event_class, pure.Event, "_get_loop", get_loop, 0)
method(event_class, pure.Event, "__init__", clear, INTERNALS)  # called again, it clears the event
finish_class(event_class)
construct_without_init(<PyTypeObject*> event_class)
cdef EventCore one = Event()
keep_spares(one, [loop_field(one)], 1)


def make_in_full(bint always):
    """As _lock's."""
    keep_no_spares(always)
