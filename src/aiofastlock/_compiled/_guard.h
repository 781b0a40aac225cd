/* What keeps a primitive consistent in free-threaded builds. With the GIL, nearly all of it compiles to
   nothing. */
#ifndef AIOFASTLOCK_GUARD_H
#define AIOFASTLOCK_GUARD_H

#include <Python.h>

#ifndef AIOFASTLOCK_DEBUG
#define AIOFASTLOCK_DEBUG 0
#endif

/* The state of a waiter. */
typedef enum {
    FINISHED,  /* over, or a spare that belongs to no primitive */
    CREATED,   /* not awaited yet */
    PARKED,    /* in the queue, not woken yet */
    CANCELLED, /* in the queue, found to be cancelled: it will have no turn */
    WOKEN,     /* in the queue, its future set: its task will run and take the turn */
} State;

/* A primitive, its queue and the state of its waiters are read and written in the primitive's critical
   section. Python suspends the section where it would release the GIL: while called code waits for
   something. So the section excludes what the GIL excludes, and one rule serves both builds: called
   code finds the primitive consistent.

   - A waiter that is CREATED is no other thread's concern. Who makes it FINISHED, by claim(), alone
     may use its reference to the primitive, and needs no section for that. Nobody else looks at the
     reference until the waiter is in the queue, which it then enters in the primitive's section.
   - While a waiter is in the queue, its reference to its primitive is read and written in the waiter's
     own section. A waiter that has left refers to None.
   - The links of the queue own nothing. A waiter that is deallocated unlinks itself, in the section,
     before it is freed. So links are valid, but may point at a waiter whose deallocation, in another
     thread, waits for the section. alive() tells, where the waiter must outlive a call.
   - A primitive that nobody waits for is acquired and released outside of the section. Then nothing
     but a number is read and written, as an atomic one, since another thread may do so at the same
     time. If two threads do, a permit may be lost, or given twice. */

/* Makes Cython take over the reference that a pointer holds. */
#define owned(pointer) (pointer)

#define has_weak_references(awaitable) (pointer_in(&(awaitable)->__weakref__) != NULL)

#define NOT_QUEUED 2 /* the outcome of an operation on a waiter that is not in a queue */

#ifdef Py_GIL_DISABLED

#define FREE_THREADED 1
#define BEGIN_SECTION(object) Py_BEGIN_CRITICAL_SECTION(object)
#define END_SECTION() Py_END_CRITICAL_SECTION()

/* Numbers that are read or written outside of the section, too. */
#ifdef _MSC_VER
typedef volatile int shared_int;
typedef volatile Py_ssize_t shared_ssize;
#else
typedef _Atomic(int) shared_int;
typedef _Atomic(Py_ssize_t) shared_ssize;
#endif

#define load_int(field) _Py_atomic_load_int_relaxed((const int *)(field))
#define store_int(field, value) _Py_atomic_store_int_relaxed((int *)(field), value)
#define load_ssize(field) _Py_atomic_load_ssize_relaxed((const Py_ssize_t *)(field))
#define store_ssize(field, value) _Py_atomic_store_ssize_relaxed((Py_ssize_t *)(field), value)
#define pointer_in(field) _Py_atomic_load_ptr_acquire(field)
#define store_pointer(field, value) _Py_atomic_store_ptr_release(field, value)

static inline int claim_state(int *state)
{
    int expected = CREATED;
    return _Py_atomic_compare_exchange_int(state, &expected, FINISHED);
}

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

/* For a waiter that this thread has claimed. Once it is parked, another thread may drop the primitive. */
static inline int in_section_of_its_primitive(PyObject *waiter, PyObject *primitive,
                                              int (*operation)(PyObject *))
{
    int outcome;
    Py_INCREF(primitive);
    BEGIN_SECTION(primitive);
    outcome = operation(waiter);
    END_SECTION();
    Py_DECREF(primitive);
    return outcome;
}

/* The primitive in whose queue the waiter is, or NULL. */
static inline PyObject *primitive_of_queued(PyObject *waiter, PyObject **its_primitive, int *state)
{
    PyObject *primitive = NULL;
    BEGIN_SECTION(waiter);
    if (load_int(state) >= PARKED) {
        primitive = Py_NewRef(*its_primitive);
    }
    END_SECTION();
    return primitive;
}

static inline int run_in_section_of_queue(PyObject *waiter, PyObject **its_primitive, int *state,
                                          int (*operation)(PyObject *))
{
    int outcome = NOT_QUEUED;
    PyObject *primitive = primitive_of_queued(waiter, its_primitive, state);
    if (primitive != NULL) {
        BEGIN_SECTION(primitive);
        /* It may have left since, and even be in another queue, which has another section. */
        if (load_int(state) >= PARKED && pointer_in(its_primitive) == primitive) {
            outcome = operation(waiter);
        }
        END_SECTION();
        Py_DECREF(primitive);
    }
    return outcome;
}

static inline PyObject *or_none(PyObject *object)
{
    return object == NULL ? Py_NewRef(Py_None) : object;
}

/* The future of a waiter that is in a queue, or None. */
static inline PyObject *read_future(PyObject *waiter, PyObject **its_primitive, int *state,
                                    PyObject **field)
{
    PyObject *primitive = primitive_of_queued(waiter, its_primitive, state);
    if (primitive == NULL) {
        return Py_NewRef(Py_None);
    }
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

#define claim(waiter) claim_state((int *)&(waiter)->state)
#define in_section(operation, primitive) \
    in_section_of((PyObject *)(primitive), (int (*)(PyObject *))(operation), (PyObject *)(primitive))
#define in_section_of_claimed(operation, waiter) \
    in_section_of_its_primitive((PyObject *)(waiter), (PyObject *)(waiter)->primitive, \
                                (int (*)(PyObject *))(operation))
#define in_section_of_queue(operation, waiter) \
    run_in_section_of_queue((PyObject *)(waiter), (PyObject **)&(waiter)->primitive, \
                            (int *)&(waiter)->state, (int (*)(PyObject *))(operation))
#define future_of_waiter(waiter) \
    read_future((PyObject *)(waiter), (PyObject **)&(waiter)->primitive, (int *)&(waiter)->state, \
                &(waiter)->future)
#define queue_of_waiter(waiter) \
    or_none(primitive_of_queued((PyObject *)(waiter), (PyObject **)&(waiter)->primitive, \
                                (int *)&(waiter)->state))
#define alive(waiter) (try_incref(waiter) ? (waiter) : Py_NewRef(Py_None))
#define may_be_looked_for(waiter) enable_try_incref((PyObject *)(waiter))
#define track_anew(awaitable) ((void)0)
#define begin_to_run(running) (!_Py_atomic_exchange_int(running, 1))
#define end_to_run(running) _Py_atomic_store_int(running, 0)

#else

#define FREE_THREADED 0
#define BEGIN_SECTION(object) ((void)0)
#define END_SECTION() ((void)0)
typedef int shared_int;
typedef Py_ssize_t shared_ssize;
#define load_int(field) (*(field))
#define store_int(field, value) (*(field) = (value))
#define load_ssize(field) (*(field))
#define store_ssize(field, value) (*(field) = (value))
#define pointer_in(field) (*(field))
#define store_pointer(field, value) (*(field) = (value))
#define claim(waiter) ((waiter)->state == CREATED ? ((waiter)->state = FINISHED, 1) : 0)
#define in_section(operation, primitive) (operation)(primitive)
#define in_section_of_claimed(operation, waiter) (operation)(waiter)
#define in_section_of_queue(operation, waiter) \
    ((waiter)->state >= PARKED ? (operation)(waiter) : NOT_QUEUED)
#define future_of_waiter(waiter) Py_NewRef((waiter)->future)
#define queue_of_waiter(waiter) \
    Py_NewRef((waiter)->state >= PARKED ? (PyObject *)(waiter)->primitive : Py_None)
#define alive(waiter) Py_NewRef(waiter)
#define may_be_looked_for(waiter) ((void)0)
/* For an awaitable that parks: gc.freeze() may have hidden it from the collector while it was a spare. */
#define track_anew(awaitable) \
    do { \
        PyObject_GC_UnTrack(awaitable); \
        PyObject_GC_Track(awaitable); \
    } while (0)
#define begin_to_run(running) (!*(running) && (*(running) = 1))
#define end_to_run(running) (*(running) = 0)

#endif

#endif
