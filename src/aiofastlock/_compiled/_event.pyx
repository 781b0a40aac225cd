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

A flag that asyncio tasks can wait for, in place of asyncio.Event.

It is unset when it is made. Every task that waits when it is set goes on, in the order in which
they came, even if it is cleared again before they run.

Behaviour: asyncio.Event's of Python 3.13. Ours: an event whose loop is closed binds itself to
the next.
"""
    cdef bint flag

    def __init__(self, *args, **kwargs):
        if args or kwargs:
            pure.Event.__init__(self, *args, **kwargs)  # refuses them in Python's words

    cdef bint take(self, Waiter waiter) except -1:
        return self.flag

    cdef int admit(self, Waiter waiter) except -1:
        return 0

    cdef int forgo(self, State state) except -1:
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
        """Return True if the event is set, False if not. (asyncio's.)"""
        return self.flag

    @cython.critical_section
    def set(self):
        """Set the event, and let all that wait for it go on. (asyncio's.)

        Returns None. Whoever waits for a set event does not stop for it.
        """
        if not self.flag:
            self.flag = True
            try:
                while self.parked is not NULL:
                    self.wake(self.parked, True)
            except MemoryError:  # so that to set it again wakes the rest
                self.flag = False
                raise

    @cython.critical_section
    def clear(self):
        """Unset the event, so that those that come from now on wait. (asyncio's.)

        Returns None. Who was waiting when it was set goes on nevertheless.
        """
        self.flag = False

    def wait(self):
        """Wait until the event is set, and return True. (asyncio's.)

        Nothing happens until it is awaited. RuntimeError, where it has to wait: the event is bound
        to another loop, which is not closed.
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
