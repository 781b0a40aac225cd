"""Event, on the queue of _lock.pyx."""

cimport cython
from cpython.object cimport PyTypeObject

from aiofastlock import _shared
from aiofastlock._pure import event as pure

from aiofastlock._compiled._lock cimport (
    EVENT_WAIT,
    ParkingLot,
    State,
    Waiter,
    construct_without_init,
    finish_public_class,
    keep_spares,
    loop_field,
    new_waiter,
)


@cython.no_gc_clear
cdef class Event(ParkingLot):
    """Event()
--

A flag that asyncio tasks can wait for. It replaces asyncio.Event.

A new event is not set. set() wakes every task that is waiting, in the order in which they
called wait(), even if the event is cleared before those tasks run.

It behaves like asyncio.Event of Python 3.13, except that an event whose event loop is closed
can be used with another event loop; in asyncio, that raises RuntimeError.
"""
    cdef bint flag

    def __init__(self, *args, **kwargs):
        if args or kwargs:
            pure.Event.__init__(self, *args, **kwargs)  # raises TypeError in Python's words
        with cython.critical_section(self):
            self.flag = False  # if this is called again

    cdef bint acquire_now(self, Waiter waiter) except -1:
        return self.flag

    cdef int acquire_woken(self, Waiter waiter) except -1:
        return 0

    cdef int hand_off(self, State state) except -1:
        return 0

    @property
    @cython.critical_section
    def _value(self):
        return self.flag

    @_value.setter
    @cython.critical_section
    def _value(self, value):
        self.flag = value

    _waiters = property(_shared.Waiters, _shared.set_waiters)

    @cython.critical_section
    def is_set(self):
        """Return True if the event is set, False otherwise."""
        return self.flag

    @cython.critical_section
    def set(self):
        """Set the event, and wake all tasks that wait for it.

        Tasks that call wait() while the event is set do not wait. There is no return value.
        """
        if not self.flag:
            self.flag = True
            try:
                while self.parked is not NULL:
                    self.wake(self.parked, True)
            except MemoryError:  # calling set() again wakes the rest
                self.flag = False
                raise

    @cython.critical_section
    def clear(self):
        """Reset the event, so that tasks that call wait() from now on wait.

        Tasks that were waiting when the event was set are woken nevertheless. There is no return
        value.
        """
        self.flag = False

    def wait(self):
        """Wait until the event is set, and return True.

        Nothing happens until the result is awaited. RuntimeError is raised if the task must wait
        and the event is bound to another event loop that is not closed.
        """
        return new_waiter(self, EVENT_WAIT)

    def __getstate__(self):
        return _shared.getstate(self, "_value")

    def __repr__(self):
        return _shared.represent(self, "set" if self._value else "unset")


finish_public_class(<PyTypeObject*> Event, "aiofastlock.Event")
construct_without_init(<PyTypeObject*> Event)
cdef Event one = Event()
keep_spares(<PyTypeObject*> Event, one, loop_field(one), NULL)
