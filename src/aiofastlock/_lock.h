/* What _lock.pyx needs of the C API and Cython cannot say. */
#ifndef AIOFASTLOCK_LOCK_H
#define AIOFASTLOCK_LOCK_H

#include <Python.h>

/* A new reference in C to Cython's eyes: it takes the one that the pointer has. */
#define owned(pointer) (pointer)

/* ---- One spare waiter ----

   Almost every await of a lock finds it free and is over at once. The waiter that such an await
   used is kept here, alive, tracked by the collector and finished, and is the next one's: a
   reference count of 1 says that nobody else has it any more. That saves its deallocation,
   allocation and tracking. It holds no lock while it is spare.
   Not in free-threaded builds, where a count of 1 seen by one thread says nothing. */

static PyObject *spare_waiter = NULL;

static inline PyObject *spare_or_new_waiter(PyTypeObject *type, PyObject *no_args)
{
#ifndef Py_GIL_DISABLED
    PyObject *waiter = spare_waiter;
    if (waiter != NULL && Py_REFCNT(waiter) == 1) {
        spare_waiter = NULL;
        return waiter;
    }
#endif
    return type->tp_new(type, no_args, NULL);
}

static inline void keep_spare_waiter(PyObject *waiter)
{
#ifndef Py_GIL_DISABLED
    if (spare_waiter == NULL) {
        spare_waiter = Py_NewRef(waiter);
    }
#endif
}

/* ---- StopIteration(True), the way an await gives True through tp_iternext ----

   The interpreter takes the value out and drops the exception, so one instance serves again and
   again. Whoever calls __next__() himself can keep it, or mark it: then a new one takes its place. */

static PyObject *spare_stop = NULL;

static inline int is_unmarked(PyStopIterationObject *stop)
{
    return Py_REFCNT(stop) == 1 && !stop->traceback && !stop->context && !stop->cause
           && !stop->suppress_context && !stop->dict && !stop->notes && stop->value == Py_True
           && PyTuple_GET_SIZE(stop->args) == 1 && PyTuple_GET_ITEM(stop->args, 0) == Py_True;
}

static inline void set_stop_iteration_true(void)
{
#if PY_VERSION_HEX >= 0x030C0000 && !defined(Py_GIL_DISABLED)
    PyObject *stop = spare_stop;
    if (stop == NULL || !is_unmarked((PyStopIterationObject *)stop)) {
        PyObject *fresh = PyObject_CallOneArg(PyExc_StopIteration, Py_True);
        if (fresh == NULL) {
            return;
        }
        /* The old one may hold the frames that it went through: code may run when it goes, which
           comes here again. */
        PyObject *old = spare_stop;
        spare_stop = Py_NewRef(fresh);
        Py_XDECREF(old);
        PyErr_SetRaisedException(fresh);
        return;
    }
    PyErr_SetRaisedException(Py_NewRef(stop));
#else
    PyErr_SetObject(PyExc_StopIteration, Py_True);
#endif
}

/* Made at import, so that no acquire fails for want of it. */
static inline int make_spare_stop(void)
{
    spare_stop = PyObject_CallOneArg(PyExc_StopIteration, Py_True);
    return spare_stop == NULL ? -1 : 0;
}

/* ---- Futures ---- */

/* The attribute that says that a task is about to wait for a future, set without a look-up. */
static PyTypeObject *future_type = NULL;
static PyGetSetDef *blocking = NULL;

static inline void learn_future_type(PyObject *type, PyObject *descriptor)
{
    if (Py_IS_TYPE(descriptor, &PyGetSetDescr_Type)) {  /* not where asyncio has no C part */
        future_type = (PyTypeObject *)Py_NewRef(type);
        blocking = ((PyGetSetDescrObject *)descriptor)->d_getset;
    }
}

static inline int set_blocking(PyObject *future, PyObject *name)
{
    if (Py_IS_TYPE(future, future_type)) {
        return blocking->set(future, Py_True, blocking->closure);
    }
    return PyObject_SetAttr(future, name, Py_True);
}

/* future.set_result(True): 1, or 0 if it was done, or -1 with an exception, which is not raised yet.
   To ask first whether it is done costs more. */
static inline int set_result_true(PyObject *future, PyObject *set_result, PyObject *if_done)
{
    PyObject *args[] = {future, Py_True};
    PyObject *none = PyObject_VectorcallMethod(set_result, args, 2, NULL);
    if (none != NULL) {
        Py_DECREF(none);
        return 1;
    }
    if (!PyErr_ExceptionMatches(if_done)) {
        return -1;
    }
    PyErr_Clear();
    return 0;
}

/* ---- Types, finished by hand at import ---- */

/* Cython knows no am_send. */
static inline void set_am_send(PyTypeObject *type, sendfunc send)
{
    type->tp_as_async->am_send = send;
}

/* C() without a call of __init__, which has nothing to do but to refuse arguments. */
static PyObject *construct(PyObject *type, PyObject *const *args, size_t nargsf,
                           PyObject *kwnames)
{
    Py_ssize_t nargs = PyVectorcall_NARGS(nargsf);
    Py_ssize_t nkwargs = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    PyObject *positional = NULL, *named = NULL, *result = NULL;

    positional = PyTuple_New(nargs);
    if (positional == NULL) {
        return NULL;
    }
    if (nargs + nkwargs == 0) {
        result = ((PyTypeObject *)type)->tp_new((PyTypeObject *)type, positional, NULL);
        goto done;
    }
    for (Py_ssize_t i = 0; i < nargs; i++) {
        PyTuple_SET_ITEM(positional, i, Py_NewRef(args[i]));
    }
    named = PyDict_New();
    if (named == NULL) {
        goto done;
    }
    for (Py_ssize_t i = 0; i < nkwargs; i++) {
        if (PyDict_SetItem(named, PyTuple_GET_ITEM(kwnames, i), args[nargs + i]) < 0) {
            goto done;
        }
    }
    result = PyType_Type.tp_call(type, positional, named);
done:
    Py_DECREF(positional);
    Py_XDECREF(named);
    return result;
}

/* What `await lock` says, in asyncio's words: a static type's full name is not in them. There is
   no __await__ in the class, so that nobody takes a lock for an awaitable. */
static PyObject *refuse_await(PyObject *self)
{
    const char *dot = strrchr(Py_TYPE(self)->tp_name, '.');
    return PyErr_Format(PyExc_TypeError,
                        PY_VERSION_HEX >= 0x030E0000 ? "'%.100s' object can't be awaited"
                                                     : "object %.100s can't be used in 'await' expression",
                        dot == NULL ? Py_TYPE(self)->tp_name : dot + 1);
}

static PyAsyncMethods not_awaitable = {.am_await = refuse_await};

/* A public class: named as users import it, in reprs and pickles as well. */
static inline void finish_public_class(PyTypeObject *type, const char *name)
{
    type->tp_name = name;
    type->tp_vectorcall = construct;
    type->tp_as_async = &not_awaitable;
    PyType_Modified(type);
}

#define raise_what_is_set() (-1)

/* Cython makes every instance a __dict__; without one, objects are smaller and the interpreter
   can specialise the look-up of their methods. It is made when an attribute is set. And it is
   dropped here when the instance dies: Cython empties it by recursion. */
#define drop_attributes(lot) Py_CLEAR((lot)->__dict__)
#define has_attributes(lot) ((lot)->__dict__ != NULL)

#endif
