/* What the public classes need of the C API and Cython cannot say. */
#ifndef AIOFASTLOCK_CLASS_H
#define AIOFASTLOCK_CLASS_H

#include <Python.h>

/* Cython makes every instance a __dict__; without one, objects are smaller and the interpreter
   can specialise the look-up of their methods. It is made when an attribute is set. And it is
   dropped here when the instance dies: Cython empties it by recursion. */
#define drop_attributes(lot) Py_CLEAR((lot)->__dict__)
#define has_attributes(lot) ((lot)->__dict__ != NULL)

/* Whether it is of a class of ours, no subclass, and no attribute of its own hides a method. */
#define is_plain(lot) \
    (!PyType_HasFeature(Py_TYPE(lot), Py_TPFLAGS_HEAPTYPE) && !has_attributes(lot))

/* C() without a call of __init__, where that has nothing to do if there are no arguments. */
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
    type->tp_as_async = &not_awaitable;
    PyType_Modified(type);
}

static inline void construct_without_init(PyTypeObject *type)
{
    type->tp_vectorcall = construct;
}

#endif
