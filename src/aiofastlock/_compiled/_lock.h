/* What _lock.pyx needs of the C API and Cython cannot say. */
#ifndef AIOFASTLOCK_LOCK_H
#define AIOFASTLOCK_LOCK_H

#include <Python.h>

#include "_guard.h"

/* A new reference in C to Cython's eyes: it takes the one that the pointer has. */
#define owned(pointer) (pointer)

/* ---- One spare waiter ----

   Almost every await of a lock finds it free and is over at once. The waiter that such an await
   used is kept here, alive, tracked by the collector and finished, and is the next one's: a
   reference count of 1 says that nobody else has it any more. That saves its deallocation,
   allocation and tracking. It holds no lock while it is spare.
   Not in free-threaded builds, where a count of 1 seen by one thread says nothing. */

/* To the collector, one that parks is new: gc.freeze() may have told it to leave the spare one alone. */
#define track_anew(waiter) \
    do { \
        PyObject_GC_UnTrack(waiter); \
        PyObject_GC_Track(waiter); \
    } while (0)

static PyObject *spare_waiter = NULL;

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

/* The lot of a waiter that is new or spare is None, so that what set_lot() replaces is known. None needs
   no counting where it is immortal. */
#if PY_VERSION_HEX >= 0x030C0000
#define INCREF_NONE() ((void)0)
#define DECREF_NONE() ((void)0)
#else
#define INCREF_NONE() Py_INCREF(Py_None)
#define DECREF_NONE() Py_DECREF(Py_None)
#endif

#define set_lot(waiter, owner) \
    do { \
        Py_INCREF(owner); \
        (waiter)->lot = (owner); \
        DECREF_NONE(); \
    } while (0)

#define drop_lot(waiter) \
    do { \
        PyObject *owner_ = (PyObject *)(waiter)->lot; \
        BEGIN_SECTION(waiter); \
        (waiter)->lot = (void *)Py_None; \
        END_SECTION(); \
        INCREF_NONE(); \
        Py_DECREF(owner_); \
    } while (0)

/* ---- StopIteration(True), the way an await gives True through tp_iternext ----

   The interpreter takes the value out and drops the exception, so one instance serves again and
   again. Whoever calls __next__() himself can keep it, or mark it: then a new one takes its place. If
   none can be made it serves nevertheless: the lock is taken, and must not be lost to an error. */

static PyObject *spare_stop = NULL; /* made at import */

#if PY_VERSION_HEX >= 0x030C0000

static inline int is_unmarked(PyStopIterationObject *stop)
{
#ifdef Py_GIL_DISABLED
    return 0; /* it serves where none can be made, and only there */
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
        /* The old one may hold the frames that it went through: code may run when it goes, which
           comes here again. */
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

#else /* none is made before somebody looks at it */

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

/* Made at import, so that no acquire fails for want of it. */
static inline int make_spare_stop(void)
{
    spare_stop = PyObject_CallOneArg(PyExc_StopIteration, Py_True);
    return spare_stop == NULL ? -1 : 0;
}

/* What Cython makes of a class visits the fields that are Python objects. `more` visits more. */
static traverseproc traverse_fields = NULL;

static inline void set_traverse(PyTypeObject *type, traverseproc more)
{
    if (traverse_fields == NULL) {
        traverse_fields = type->tp_traverse;
    }
    type->tp_traverse = more;
}

/* Cython knows no am_send. */
static inline void set_am_send(PyTypeObject *type, sendfunc send)
{
    type->tp_as_async->am_send = send;
}

#endif
