/* What _queue.pyx needs of the C API and Cython cannot express. */
#ifndef AIOFASTLOCK_QUEUE_H
#define AIOFASTLOCK_QUEUE_H

#include <Python.h>

#include "_guard.h"

/* ---- Deques ----

   The items of a Queue are in a collections.deque, since programs index, slice and shuffle it. Its methods
   are called without a look-up, and without the call that leads to them. */

static PyCFunction append_to_deque = NULL, pop_from_deque = NULL;
static lenfunc length_of_deque = NULL;

static PyCFunction method_in_c(PyObject *type, const char *name, int flags)
{
    PyObject *method = PyObject_GetAttrString(type, name);
    PyCFunction found = NULL;
    if (method != NULL && Py_IS_TYPE(method, &PyMethodDescr_Type)
        && ((PyMethodDescrObject *)method)->d_method->ml_flags == flags) {
        found = ((PyMethodDescrObject *)method)->d_method->ml_meth;
    } else if (!PyErr_Occurred()) { /* pragma: no cover - a Python that has another deque */
        PyErr_Format(PyExc_ImportError, "collections.deque.%s() is not as expected", name);
    }
    Py_XDECREF(method); /* the type, which is never freed, has another reference */
    return found;
}

static inline int learn_deque(PyObject *type)
{
    append_to_deque = method_in_c(type, "append", METH_O);
    pop_from_deque = append_to_deque == NULL ? NULL : method_in_c(type, "popleft", METH_NOARGS);
    length_of_deque = ((PyTypeObject *)type)->tp_as_sequence->sq_length;
    return pop_from_deque == NULL ? -1 : 0;
}

static inline int deque_append(PyObject *deque, PyObject *item)
{
    PyObject *none = append_to_deque(deque, item);
    Py_XDECREF(none);
    return none == NULL ? -1 : 0;
}

#define deque_popleft(deque) pop_from_deque(deque, NULL)
#define deque_length(deque) length_of_deque(deque)

/* ---- StopIteration(item), the way an await gives an item through tp_iternext ----

   The interpreter takes the item out and drops the exception. One instance is used again and again: it is
   of a subclass whose deallocation drops the item, and keeps the memory. So it never keeps an item alive.
   It is allocated before the item is taken, which must not be lost to a MemoryError. */

#if PY_VERSION_HEX >= 0x030C0000 && !defined(Py_GIL_DISABLED)

static PyTypeObject *result_type = NULL;
static PyStopIterationObject *spare_result = NULL;
static PyObject *no_args = NULL;

static void result_dealloc(PyObject *self)
{
    PyStopIterationObject *stop = (PyStopIterationObject *)self;
    PyObject_GC_UnTrack(self);
    Py_CLEAR(stop->dict);
    Py_CLEAR(stop->args);
    Py_CLEAR(stop->notes);
    Py_CLEAR(stop->traceback);
    Py_CLEAR(stop->context);
    Py_CLEAR(stop->cause);
    Py_CLEAR(stop->value);
    if (spare_result == NULL) {
        stop->suppress_context = 0;
        spare_result = stop;
    } else {
        PyObject_GC_Del(self);
    }
    Py_DECREF(result_type);
}

static PyType_Slot result_slots[] = {
    {Py_tp_dealloc, result_dealloc},
    {0, NULL},
};

static inline int make_result_type(void)
{
    PyType_Spec spec = {
        .name = "builtins.StopIteration",
        .basicsize = sizeof(PyStopIterationObject),
        .flags = Py_TPFLAGS_DEFAULT,
        .slots = result_slots,
    };
    no_args = PyTuple_New(0);
    result_type = (PyTypeObject *)PyType_FromSpecWithBases(&spec, PyExc_StopIteration);
    return result_type == NULL || no_args == NULL ? -1 : 0;
}

static int allocate_result(void)
{
    spare_result = (PyStopIterationObject *)result_type->tp_alloc(result_type, 0);
    if (spare_result == NULL) {
        return -1;
    }
    PyObject_GC_UnTrack(spare_result);
    Py_DECREF(result_type); /* PyObject_Init() counts it again */
    return 0;
}

/* Comes before set_stop_iteration_item(). */
#define reserve_result(transfer) (spare_result == NULL ? allocate_result() : 0)

/* Steals the item. */
#define set_stop_iteration_item(item, transfer) raise_item(item)
static inline void raise_item(PyObject *item)
{
    PyStopIterationObject *stop = spare_result;
    spare_result = NULL;
    PyObject_Init((PyObject *)stop, result_type);
    stop->args = Py_NewRef(no_args);
    stop->value = item;
    PyObject_GC_Track(stop);
    PyErr_SetRaisedException((PyObject *)stop);
}

#else /* `await` calls am_send on Python 3.11, and threads would share the instance in free-threaded builds */

#define make_result_type() 0

/* Each awaitable has its own, or None. */
#define reserve_result(transfer) reserve(&(transfer)->reserved)
static inline int reserve(PyObject **reserved)
{
    if (*reserved == Py_None) {
        PyObject *stop = PyObject_CallNoArgs(PyExc_StopIteration);
        if (stop == NULL) {
            return -1;
        }
        Py_SETREF(*reserved, stop);
    }
    return 0;
}

#define set_stop_iteration_item(item, transfer) raise_item(item, &(transfer)->reserved)
static inline void raise_item(PyObject *item, PyObject **reserved)
{
    PyObject *stop = *reserved;
    *reserved = Py_NewRef(Py_None);
    Py_XSETREF(((PyStopIterationObject *)stop)->value, item);
    PyErr_SetObject(PyExc_StopIteration, stop);
    Py_DECREF(stop);
}

#endif

/* ---- One spare awaitable, as in _lock.h ---- */

static PyObject *spare_transfer = NULL;

static inline PyObject *take_spare_transfer(void)
{
#ifndef Py_GIL_DISABLED
    PyObject *transfer = spare_transfer;
    if (transfer != NULL && Py_REFCNT(transfer) == 1) {
        spare_transfer = NULL;
        return transfer;
    }
#endif
    return NULL;
}

static inline void keep_spare_transfer(PyObject *transfer)
{
#ifndef Py_GIL_DISABLED
    if (spare_transfer == NULL) {
        spare_transfer = Py_NewRef(transfer);
    }
#endif
}

#endif
