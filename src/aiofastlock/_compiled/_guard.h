/* What keeps a lot whole in free-threaded builds. With the GIL, nearly all of it comes to nothing. */
#ifndef AIOFASTLOCK_GUARD_H
#define AIOFASTLOCK_GUARD_H

#include <Python.h>

#ifndef AIOFASTLOCK_DEBUG
#define AIOFASTLOCK_DEBUG 0
#endif

/* A lot, its queue and the state of its waiters are read and written in the lot's critical section. The
   section is given up where the GIL may be: while code that is called waits for something. So it keeps
   out what the GIL keeps out, and one rule serves both: whatever is called finds the lot whole.

   - The lot that a waiter has, and lets go of for good when it is finished, is read and written in the
     waiter's own section. A waiter without a lot is finished, and its own section is all it needs:
     that of None, which it has instead, is every thread's, and they would stand in line for it.
   - The queue's links own nothing. A waiter that dies takes itself out, in the section, before it is
     freed; so what the links point at is always there, but may be dying in a thread that waits for
     the section. alive() tells, where the waiter must outlive a call. */

#ifdef Py_GIL_DISABLED

#define BEGIN_SECTION(object) Py_BEGIN_CRITICAL_SECTION(object)
#define END_SECTION() Py_END_CRITICAL_SECTION()

static inline PyObject *read_in_section_of(PyObject *object, PyObject **field)
{
    PyObject *value;
    BEGIN_SECTION(object);
    value = Py_NewRef(*field);
    END_SECTION();
    return value;
}

static inline int in_section_of(PyObject *lot, int (*operation)(PyObject *), PyObject *self)
{
    int outcome;
    BEGIN_SECTION(lot);
    outcome = operation(self);
    END_SECTION();
    return outcome;
}

static inline int in_section_of_its_lot(PyObject *waiter, PyObject **its_lot,
                                        int (*operation)(PyObject *))
{
    PyObject *lot = read_in_section_of(waiter, its_lot);
    int outcome = in_section_of(Py_IsNone(lot) ? waiter : lot, operation, waiter);
    Py_DECREF(lot);
    return outcome;
}

static inline PyObject *read_in_section_of_its_lot(PyObject *waiter, PyObject **its_lot,
                                                   PyObject **field)
{
    PyObject *lot = read_in_section_of(waiter, its_lot);
    PyObject *value = read_in_section_of(lot, field);
    Py_DECREF(lot);
    return value;
}

#if PY_VERSION_HEX >= 0x030E0000
#define try_incref PyUnstable_TryIncRef
#define enable_try_incref PyUnstable_EnableTryIncRef
#else
/* As 3.14's: a count that threads share is never taken up from zero, and is not taken for zero while the
   owning thread has a reference that it counts apart. */
static inline int try_incref(PyObject *object)
{
    if (_Py_IsOwnedByCurrentThread(object)) {
        Py_INCREF(object);
        return 1;
    }
    Py_ssize_t shared = _Py_atomic_load_ssize_relaxed(&object->ob_ref_shared);
    do {
        if (shared == 0 || shared == _Py_REF_MERGED) {
            return 0;
        }
    } while (!_Py_atomic_compare_exchange_ssize(&object->ob_ref_shared, &shared,
                                                shared + (1 << _Py_REF_SHARED_SHIFT)));
    return 1;
}

static inline void enable_try_incref(PyObject *object)
{
    Py_ssize_t shared = _Py_atomic_load_ssize_relaxed(&object->ob_ref_shared);
    while (!(shared & _Py_REF_SHARED_FLAG_MASK)
           && !_Py_atomic_compare_exchange_ssize(&object->ob_ref_shared, &shared,
                                                 shared | _Py_REF_MAYBE_WEAKREF)) {
    }
}
#endif

#define locked(operation, lot) \
    in_section_of((PyObject *)(lot), (int (*)(PyObject *))(operation), (PyObject *)(lot))
#define lot_locked(operation, waiter) \
    in_section_of_its_lot((PyObject *)(waiter), (PyObject **)&(waiter)->lot, \
                          (int (*)(PyObject *))(operation))
#define future_of_waiter(waiter) \
    read_in_section_of_its_lot((PyObject *)(waiter), (PyObject **)&(waiter)->lot, \
                               &(waiter)->future)
#define read_field(lot, field) read_in_section_of((PyObject *)(lot), &(lot)->field)
#define alive(waiter) (try_incref(waiter) ? (waiter) : Py_NewRef(Py_None))
#define may_be_looked_for(waiter) enable_try_incref((PyObject *)(waiter))
#define begin_to_run(running) (!_Py_atomic_exchange_int(running, 1))
#define end_to_run(running) _Py_atomic_store_int(running, 0)
#define pointer_in(field) _Py_atomic_load_ptr_relaxed(field)

#else

#define BEGIN_SECTION(object) ((void)0)
#define END_SECTION() ((void)0)
#define locked(operation, lot) (operation)(lot)
#define lot_locked(operation, waiter) (operation)(waiter)
#define future_of_waiter(waiter) Py_NewRef((waiter)->future)
#define read_field(lot, field) Py_NewRef((lot)->field)
#define alive(waiter) Py_NewRef(waiter)
#define may_be_looked_for(waiter) ((void)0)
#define begin_to_run(running) (!*(running) && (*(running) = 1))
#define end_to_run(running) (*(running) = 0)
#define pointer_in(field) (*(field))

#endif

#endif
