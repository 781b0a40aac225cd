from aiofastlock._compiled._lock cimport ContextManager, shared_ssize


cdef class SemaphoreCore(ContextManager):
    cdef shared_ssize value

    cdef bint is_served(self) noexcept
    cdef bint grant_first(self) except -1
    cdef bint wake_up_next(self) except -1
    cdef int grant_all(self) except -1


cdef class BoundedSemaphoreCore(SemaphoreCore):
    cdef shared_ssize bound
