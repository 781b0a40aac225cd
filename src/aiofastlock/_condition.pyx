"""Condition, on the queue of _lock.pyx and a lock."""

cimport cython
from cpython.object cimport PyTypeObject
from cpython.pyport cimport PY_SSIZE_T_MAX

from aiofastlock import _protocols
from aiofastlock._pure import condition as pure
from aiofastlock._pure import lock as pure_lock

from aiofastlock._lock cimport (
    ENTER,
    EXIT,
    LOCK_ACQUIRE,
    Lock,
    ParkingLot,
    State,
    Waiter,
    construct_without_init,
    finish_public_class,
    is_own,
    is_plain,
    new_waiter,
)


@cython.no_gc_clear
cdef class Condition(ParkingLot):
    """Condition(lock=None)
--

A lock with a queue of tasks that wait for a notification, in place of asyncio.Condition.

`lock` is any object with acquire(), release() and locked(), which several conditions can share;
without it, the condition has a Lock of its own. Use it as `async with condition:`, and inside,
wait() or notify().

AttributeError: a lock that lacks one of the three.

Behaviour: asyncio.Condition's of Python 3.13. Ours: a condition whose loop is closed binds
itself to the next.
"""
    cdef object lock  # None until it is needed, where it is our own

    def __init__(self, lock=None, *args, **kwargs):
        if args or kwargs:
            pure.Condition.__init__(self, lock, *args, **kwargs)  # refuses them in Python's words
        if lock is not None:
            lock.locked, lock.acquire, lock.release  # noqa: B018
            self.lock = lock

    cdef int admit(self, Waiter waiter) except -1:
        return 0

    cdef int forgo(self, State state) except -1:
        return 0

    cdef object the_lock(self):
        if self.lock is None:
            self.lock = Lock()
        return self.lock

    cdef bint has_plain_lock(self) except -1:
        """Whether acquire() and release() are our own Lock's, and nothing overrides them."""
        return type(self.the_lock()) is Lock and is_plain(<ParkingLot> self.lock)

    @property
    def _lock(self):
        return self.the_lock()

    @_lock.setter
    def _lock(self, lock):
        self.lock = lock

    _waiters = property(_protocols.Waiters, _protocols.set_waiters)

    def locked(self):
        """Return True if the lock is held, False if not. (The lock's own.)"""
        if self.has_plain_lock():
            return (<Lock> self.lock).held
        return self.lock.locked()

    def acquire(self):
        """Wait until the lock is unlocked, and lock it. (The lock's own.)"""
        if self.has_plain_lock():
            return new_waiter(<ParkingLot> self.lock, LOCK_ACQUIRE)
        return self.lock.acquire()

    def release(self):
        """Unlock the lock. (The lock's own.)"""
        if self.has_plain_lock():
            (<Lock> self.lock).give(None)
            return None
        return self.lock.release()

    def __aenter__(self):
        if self.has_plain_lock() and (is_plain(self) or is_own(self, "acquire")):
            return new_waiter(<ParkingLot> self.lock, ENTER)
        return pure_lock.ContextManager.__aenter__(self)

    def __aexit__(self, exc_type, exc, tb, /):  # by position: cheaper to parse
        if self.has_plain_lock() and (is_plain(self) or is_own(self, "release")):
            return new_waiter(<ParkingLot> self.lock, EXIT)
        return pure_lock.ContextManager.__aexit__(self, exc_type, exc, tb)

    def wait(self):
        """Unlock the lock, wait for a notification, lock it again, and return True. (asyncio's.)

        Nothing happens until it is awaited. Whatever comes, a CancelledError too, it takes the lock
        back before it ends. It may return without a notification: look at what was waited for, and
        wait again. RuntimeError: the lock is not locked; the condition is bound to another loop,
        which is not closed.
        """
        return pure.Condition.wait(self)

    def wait_for(self, predicate):
        """Wait until predicate() is true, and return what it gave. (asyncio's.)

        It is called with the lock held: at once, and after every wait().
        """
        return pure.Condition.wait_for(self, predicate)

    def notify(self, n=1):
        """Let the first `n` tasks that wait go on, once they get the lock. (asyncio's.)

        Returns None. It does not unlock the lock. RuntimeError: the lock is not locked.
        """
        if not self.locked():
            raise RuntimeError("cannot notify on un-acquired lock")
        self._notify(n)

    def notify_all(self):
        """Let all tasks that wait go on, once they get the lock. (asyncio's.)

        Returns None. RuntimeError: the lock is not locked.
        """
        self.notify(self.count)

    def _notify(self, n):
        cdef Py_ssize_t left = n if n < PY_SSIZE_T_MAX else PY_SSIZE_T_MAX
        while left > 0 and self.parked is not NULL:
            left -= self.wake(<Waiter> self.parked)

    def __getstate__(self):
        return _protocols.getstate(self, "_lock")

    def __repr__(self):
        return _protocols.represent(self, "locked" if self.locked() else "unlocked")


finish_public_class(<PyTypeObject*> Condition, "aiofastlock.Condition")
construct_without_init(<PyTypeObject*> Condition)
