/* What keeps a primitive consistent in free-threaded builds. With the GIL, nearly all of it compiles to
   nothing. */
#ifndef AIOFASTLOCK_GUARD_H
#define AIOFASTLOCK_GUARD_H

#include <Python.h>

#ifndef AIOFASTLOCK_DEBUG
#define AIOFASTLOCK_DEBUG 0
#endif

/* A primitive, its queue and the state of its waiters are read and written in the primitive's critical
   section. Python suspends the section where it would release the GIL: while called code waits for
   something. So the section excludes what the GIL excludes, and one rule serves both builds: called
   code finds the primitive consistent.

   - A waiter's reference to its primitive is read and written in the waiter's own section. A waiter
     refers to None once it is finished, and then its own section is enough: all threads would
     contend for the section of None.
   - The links of the queue own nothing. A waiter that is deallocated unlinks itself, in the section,
     before it is freed. So links are valid, but may point at a waiter whose deallocation, in another
     thread, waits for the section. alive() tells, where the waiter must outlive a call. */

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

static inline int in_section_of(PyObject *primitive, int (*operation)(PyObject *), PyObject *self)
{
    int outcome;
    BEGIN_SECTION(primitive);
    outcome = operation(self);
    END_SECTION();
    return outcome;
}

static inline int run_in_section_of_primitive(PyObject *waiter, PyObject **its_primitive,
                                        int (*operation)(PyObject *))
{
    PyObject *primitive = read_in_section_of(waiter, its_primitive);
    int outcome = in_section_of(Py_IsNone(primitive) ? waiter : primitive, operation, waiter);
    Py_DECREF(primitive);
    return outcome;
}

static inline PyObject *read_in_primitives_section(PyObject *waiter, PyObject **its_primitive,
                                                   PyObject **field)
{
    PyObject *primitive = read_in_section_of(waiter, its_primitive);
    PyObject *value = read_in_section_of(primitive, field);
    Py_DECREF(primitive);
    return value;
}

#if PY_VERSION_HEX >= 0x030E0000
#define try_incref PyUnstable_TryIncRef
#define enable_try_incref PyUnstable_EnableTryIncRef
#else
/* As in 3.14: a shared count of zero is never incremented, and it is not taken for zero while the owning
   thread holds a reference that it counts apart. */
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

#define in_section(operation, primitive) \
    in_section_of((PyObject *)(primitive), (int (*)(PyObject *))(operation), (PyObject *)(primitive))
#define in_section_of_primitive(operation, waiter) \
    run_in_section_of_primitive((PyObject *)(waiter), (PyObject **)&(waiter)->primitive, \
                          (int (*)(PyObject *))(operation))
#define future_of_waiter(waiter) \
    read_in_primitives_section((PyObject *)(waiter), (PyObject **)&(waiter)->primitive, \
                               &(waiter)->future)
#define primitive_of_waiter(waiter) \
    read_in_section_of((PyObject *)(waiter), (PyObject **)&(waiter)->primitive)
#define read_field(primitive, field) read_in_section_of((PyObject *)(primitive), &(primitive)->field)
#define alive(waiter) (try_incref(waiter) ? (waiter) : Py_NewRef(Py_None))
#define may_be_looked_for(waiter) enable_try_incref((PyObject *)(waiter))
#define begin_to_run(running) (!_Py_atomic_exchange_int(running, 1))
#define end_to_run(running) _Py_atomic_store_int(running, 0)
#define pointer_in(field) _Py_atomic_load_ptr_relaxed(field)

#else

#define BEGIN_SECTION(object) ((void)0)
#define END_SECTION() ((void)0)
#define in_section(operation, primitive) (operation)(primitive)
#define in_section_of_primitive(operation, waiter) (operation)(waiter)
#define future_of_waiter(waiter) Py_NewRef((waiter)->future)
#define primitive_of_waiter(waiter) Py_NewRef((waiter)->primitive)
#define read_field(primitive, field) Py_NewRef((primitive)->field)
#define alive(waiter) Py_NewRef(waiter)
#define may_be_looked_for(waiter) ((void)0)
#define begin_to_run(running) (!*(running) && (*(running) = 1))
#define end_to_run(running) (*(running) = 0)
#define pointer_in(field) (*(field))

#endif

#endif
