/* What _lock.pyx needs of the C API and Cython cannot express. */
#ifndef AIOFASTLOCK_LOCK_H
#define AIOFASTLOCK_LOCK_H

#include <Python.h>

#include "_guard.h"

/* Makes Cython take over the reference that a pointer holds. */
#define owned(pointer) (pointer)

/* ---- One spare waiter ----

   Almost every await of a lock finds it unlocked and is over at once. The waiter of such an await
   is kept here, finished and tracked by the garbage collector, and the next await uses it again. A
   reference count of 1 tells that nothing else refers to it. This saves a deallocation, an
   allocation and the tracking. A spare waiter refers to no primitive.
   Not in free-threaded builds, where a count of 1 that one thread sees proves nothing. */

/* A waiter that parks is tracked anew: gc.freeze() may have hidden the spare one from the collector. */
#define track_anew(waiter) \
    do { \
        PyObject_GC_UnTrack(waiter); \
        PyObject_GC_Track(waiter); \
    } while (0)

static PyObject *spare_waiter = NULL;

#define has_weak_references(waiter) ((waiter)->__weakref__ != NULL)

static inline PyObject *take_spare_waiter(void)
{
#ifndef Py_GIL_DISABLED
    PyObject *waiter = spare_waiter;
    if (waiter != NULL && Py_REFCNT(waiter) == 1) {
        spare_waiter = NULL;
        return waiter;
    }
#endif
    return NULL;
}

static inline void keep_spare_waiter(PyObject *waiter)
{
#ifndef Py_GIL_DISABLED
    if (spare_waiter == NULL) {
        spare_waiter = Py_NewRef(waiter);
    }
#endif
}

/* A waiter that is new or spare refers to None, so set_primitive() knows what it replaces. Where None
   is immortal, its references need not be counted. */
#if PY_VERSION_HEX >= 0x030C0000
#define INCREF_NONE() ((void)0)
#define DECREF_NONE() ((void)0)
#else
#define INCREF_NONE() Py_INCREF(Py_None)
#define DECREF_NONE() Py_DECREF(Py_None)
#endif

#define set_primitive(waiter, owner) \
    do { \
        Py_INCREF(owner); \
        (waiter)->primitive = (owner); \
        DECREF_NONE(); \
    } while (0)

#define drop_primitive(waiter) \
    do { \
        PyObject *owner_ = (PyObject *)(waiter)->primitive; \
        BEGIN_SECTION(waiter); \
        (waiter)->primitive = (void *)Py_None; \
        END_SECTION(); \
        INCREF_NONE(); \
        Py_DECREF(owner_); \
    } while (0)

/* ---- StopIteration(True), the way an await gives True through tp_iternext ----

   The interpreter takes out the value and drops the exception, so one instance can be used again
   and again. Code that calls __next__() itself may keep or change it; then a new one replaces it.
   If no new one can be allocated, it is used nevertheless: the lock is acquired already, and must
   not be lost to a MemoryError. */

static PyObject *spare_stop = NULL; /* made at import */

#if PY_VERSION_HEX >= 0x030C0000

static inline int is_unmarked(PyStopIterationObject *stop)
{
#ifdef Py_GIL_DISABLED
    return 0; /* used only where no new one can be allocated */
#endif
    return Py_REFCNT(stop) == 1 && !stop->traceback && !stop->context && !stop->cause
           && !stop->suppress_context && !stop->dict && !stop->notes && stop->value == Py_True
           && PyTuple_GET_SIZE(stop->args) == 1 && PyTuple_GET_ITEM(stop->args, 0) == Py_True;
}

static PyObject *new_stop(void)
{
    PyObject *stop = PyObject_CallOneArg(PyExc_StopIteration, Py_True);
    if (stop == NULL) {
        PyErr_Clear();
        stop = Py_NewRef(spare_stop);
        Py_XSETREF(((PyStopIterationObject *)stop)->value, Py_NewRef(Py_True));
    } else {
#ifndef Py_GIL_DISABLED
        /* Freeing the old one may free frames in its traceback, and run code that calls this again. */
        Py_SETREF(spare_stop, Py_NewRef(stop));
#endif
    }
    return stop;
}

static inline void set_stop_iteration_true(void)
{
    int serves = is_unmarked((PyStopIterationObject *)spare_stop);
    PyErr_SetRaisedException(serves ? Py_NewRef(spare_stop) : new_stop());
}

#else /* Python 3.11 creates the exception only when code looks at it */

#define set_stop_iteration_true() PyErr_SetObject(PyExc_StopIteration, Py_True)

#endif

static inline void set_stop_iteration_index(Py_ssize_t index)
{
    PyObject *value = PyLong_FromSsize_t(index);
    if (value != NULL) {
        PyErr_SetObject(PyExc_StopIteration, value);
        Py_DECREF(value);
    }
}

/* Created at import, so that no acquire() fails for lack of it. */
static inline int make_spare_stop(void)
{
    spare_stop = PyObject_CallOneArg(PyExc_StopIteration, Py_True);
    return spare_stop == NULL ? -1 : 0;
}

/* Cython's tp_traverse visits the fields that are Python objects; `more` visits more than those. */
static traverseproc traverse_fields = NULL;

static inline void set_traverse(PyTypeObject *type, traverseproc more)
{
    if (traverse_fields == NULL) {
        traverse_fields = type->tp_traverse;
    }
    type->tp_traverse = more;
}

/* What Cython cannot declare of an awaitable. `yield from` iterates over it, but it has no __iter__, as
   a coroutine has none. Code that calls __await__() gets an iterator; `await` uses the slot. */
static inline int finish_awaitable(PyTypeObject *type, sendfunc send, PyObject *attributes)
{
    type->tp_as_async->am_send = send;
    type->tp_iter = PyObject_SelfIter;
    type->tp_name = "coroutine"; /* in messages */
    int failed = PyDict_Merge(type->tp_dict, attributes, 1);
    PyType_Modified(type);
    return failed;
}

#endif
