"""RWLock, on the queue of _lock.pyx."""

cimport cython

from aiofastlock import _shared
from aiofastlock._pure import rwlock as pure

from aiofastlock._compiled._lock cimport (
    ACQUIRE,
    READER_ACQUIRE,
    READER_ENTER,
    READER_EXIT,
    RELEASE,
    WRITER_ACQUIRE,
    WRITER_ENTER,
    WRITER_EXIT,
    Call,
    ParkingLot,
    State,
    Waiter,
    exit_method,
    finish_class,
    in_section,
    is_closed,
    load_int,
    load_ssize,
    method,
    new_class,
    new_waiter,
    recorder,
    shared_int,
    shared_ssize,
    store_int,
    store_ssize,
    unbind_if_closed,
)

cdef extern from "_class.h":
    void drop_attributes(Side)


@cython.no_gc_clear
cdef class TurnsCore(ParkingLot):
    cdef shared_ssize readers   # that are inside
    cdef shared_int writing     # a writer is inside
    cdef bint woken_to_write    # a woken waiter is a writer

    # Invariants: readers are inside, or one writer. The waiters that were woken and have yet to run
    # are readers, or one writer, and could be inside with those who are. The first parked waiter
    # could not, unless a cancelled one before it has yet to run, which then calls hand_off(), or an
    # earlier wake-up failed.

    cdef bint is_free(self, bint writes) noexcept:
        """Whether one more can be inside with those who are, and with those who were woken."""
        if writes:
            return not self.writing and self.readers == 0 and self.woken == 0
        return not self.writing and not (self.woken > 0 and self.woken_to_write)

    cdef bint take(self, bint writes) except -1:
        """Let a newcomer in, unless it must wait; return whether it is inside."""
        if self.parked is not NULL:
            self.hand_off_turns()
        if self.parked is not NULL or not self.is_free(writes):
            return False
        self.enter(writes)
        return True

    cdef bint try_take(self, bint writes) except -1:
        # The reason to wait may have gone with a closed loop.
        return self.take(writes) or unbind_if_closed(self) and self.take(writes)

    cdef void enter(self, bint writes) noexcept:
        if writes:
            store_int(&self.writing, True)
        else:
            store_ssize(&self.readers, self.readers + 1)

    cdef int leave(self, bint writes) except -1:
        """Let a writer or a reader out, and wake those whose turn it is then."""
        if writes:
            if not self.writing:
                raise RuntimeError("RWLock is not acquired to write.")
            store_int(&self.writing, False)
        else:
            if self.readers == 0:
                raise RuntimeError("RWLock is not acquired to read.")
            store_ssize(&self.readers, self.readers - 1)
        return self.wake_up()

    cdef int hand_off_turns(self) except -1:
        return 0 if is_closed(self.loop) else self.wake_up()

    cdef int wake_up(self) except -1:
        """Wake the first waiter, and if it reads the readers behind it, if they can be inside."""
        cdef bint writes
        while self.parked is not NULL:
            writes = is_writer((<Waiter> self.parked).call)
            if self.is_free(writes):
                self.woken_to_write = writes
                self.wake(self.parked, True)
            elif not self.settle_if_done(self.parked):
                break
        return 0

    cdef bint acquire_now(self, Waiter waiter) except -1:
        return self.take(is_writer(waiter.call))

    cdef int release_now(self, Waiter waiter) except -1:
        # Without a waiter, what is held is released.
        return self.leave(self.writing if waiter is None else waiter.call == WRITER_EXIT)

    cdef int acquire_woken(self, Waiter waiter) except -1:
        self.enter(is_writer(waiter.call))
        return 0

    cdef int hand_off(self, State state) except -1:
        return 0 if self.parked is NULL else self.hand_off_turns()

    # For reprs, copies and aiofastlock.watch:

    @property
    def _readers(self):
        return load_ssize(&self.readers)

    @property
    def _writing(self):
        return <bint> load_int(&self.writing)


cdef inline bint is_writer(Call call) noexcept:
    return call == WRITER_ACQUIRE or call == WRITER_ENTER


cdef int release_reader(ParkingLot turns) except -1:
    if (<TurnsCore> turns).readers == 0:
        return (<TurnsCore> turns).leave(False)  # raises
    return turns.release_now(None)


cdef int release_writer(ParkingLot turns) except -1:
    if not (<TurnsCore> turns).writing:
        return (<TurnsCore> turns).leave(True)  # raises
    return turns.release_now(None)


cdef object try_to(TurnsCore turns, bint writes):
    with cython.critical_section(turns):
        taken = turns.try_take(writes)
    if taken and recorder is not NULL:
        _shared.recorder.acquired(turns)
    return taken


# ---- The two locks ----

@cython.no_gc_clear  # it needs its turns; the __dict__ breaks any cycle
cdef class Side:
    cdef object __weakref__
    cdef dict __dict__
    cdef TurnsCore turns

    def __cinit__(self, TurnsCore turns not None):
        drop_attributes(self)
        self.turns = turns

    def __dealloc__(self):
        drop_attributes(self)

    @property
    def _turns(self):
        return self.turns


@cython.no_gc_clear
cdef class ReaderCore(Side):
    def __init__(self, turns):
        pass


@cython.no_gc_clear
cdef class WriterCore(Side):
    def __init__(self, turns):
        pass


cdef object reader_locked(object self):
    return load_ssize(&(<Side> self).turns.readers) > 0


cdef object reader_acquire(object self):
    return new_waiter((<Side> self).turns, READER_ACQUIRE)


cdef object reader_try(object self):
    return try_to((<Side> self).turns, False)


cdef object reader_release(object self):
    in_section(release_reader, (<Side> self).turns)


cdef object reader_enter(object self):
    return new_waiter((<Side> self).turns, READER_ENTER)


cdef object reader_exit(object self):
    return new_waiter((<Side> self).turns, READER_EXIT)


cdef object writer_locked(object self):
    return <bint> load_int(&(<Side> self).turns.writing)


cdef object writer_acquire(object self):
    return new_waiter((<Side> self).turns, WRITER_ACQUIRE)


cdef object writer_try(object self):
    return try_to((<Side> self).turns, True)


cdef object writer_release(object self):
    in_section(release_writer, (<Side> self).turns)


cdef object writer_enter(object self):
    return new_waiter((<Side> self).turns, WRITER_ENTER)


cdef object writer_exit(object self):
    return new_waiter((<Side> self).turns, WRITER_EXIT)


cdef type reader_class = new_class(ReaderCore, pure.ReaderLock, (pure.Side,))
ReaderLock = reader_class
method(reader_class, pure.ReaderLock, "acquire", reader_acquire, 0)
method(reader_class, pure.ReaderLock, "try_acquire", reader_try, 0)
method(reader_class, pure.ReaderLock, "release", reader_release, 0)
method(reader_class, pure.ReaderLock, "locked", reader_locked, 0)
method(reader_class, pure.ReaderLock, "__aenter__", reader_enter, ACQUIRE)
exit_method(reader_class, pure.ReaderLock, reader_exit, RELEASE)
finish_class(reader_class)

cdef type writer_class = new_class(WriterCore, pure.WriterLock, (pure.Side,))
WriterLock = writer_class
method(writer_class, pure.WriterLock, "acquire", writer_acquire, 0)
method(writer_class, pure.WriterLock, "try_acquire", writer_try, 0)
method(writer_class, pure.WriterLock, "release", writer_release, 0)
method(writer_class, pure.WriterLock, "locked", writer_locked, 0)
method(writer_class, pure.WriterLock, "__aenter__", writer_enter, ACQUIRE)
exit_method(writer_class, pure.WriterLock, writer_exit, RELEASE)
finish_class(writer_class)

Turns = type(pure.Turns.__name__, (TurnsCore, pure.Turns), {
    "__slots__": (),
    "__module__": "aiofastlock",
    "__init__": object.__init__,
})
RWLock = type("RWLock", (pure.RWLock,), {
    "__module__": "aiofastlock",
    "__doc__": pure.RWLock.__doc__,
    "_classes": (Turns, ReaderLock, WriterLock),
})
