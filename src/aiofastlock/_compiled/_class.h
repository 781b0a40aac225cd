/* What the public classes need of the C API and Cython cannot express. */
#ifndef AIOFASTLOCK_CLASS_H
#define AIOFASTLOCK_CLASS_H

#include <Python.h>

#include "_guard.h"

/* Cython creates a __dict__ for every instance. Without one, objects are smaller and the interpreter
   can specialise the look-up of their methods. It is created when an attribute is set, and dropped
   here when the instance is deallocated, since Cython would clear it by recursion. */
#define drop_attributes(primitive) Py_CLEAR((primitive)->__dict__)
#define has_attributes(primitive) (pointer_in(&(primitive)->__dict__) != NULL)

/* Whether it is an instance of a public class itself, and no instance attribute hides a method. */
#define is_plain(primitive) \
    (!PyType_HasFeature(Py_TYPE(primitive), Py_TPFLAGS_HEAPTYPE) && !has_attributes(primitive))

/* ---- C() with no arguments ----

   C() skips __init__, which has nothing to do then, and uses the memory of a deallocated instance:
   those are kept, untracked by the garbage collector, with all fields zero or None as in a new
   instance. Not instances of subclasses, and not in free-threaded builds. */

#define MOST_SPARES 64

static struct {
    PyTypeObject *type;         /* the class of this module that keeps spares, if any */
    destructor dealloc;         /* Cython's */
    Py_ssize_t objects[2];      /* the offsets of the fields that are Python objects */
    int number;                 /* of those fields */
    int count;                  /* of spares */
    PyObject *spares[MOST_SPARES];
} quick;

#define field(self, offset) ((PyObject **)((char *)(self) + (offset)))

static void keep_or_dealloc(PyObject *self)
{
    if (Py_TYPE(self) != quick.type || quick.count == MOST_SPARES
        || *field(self, quick.objects[0]) == NULL) { /* its allocation failed half-way */
        quick.dealloc(self);
        return;
    }
    Py_ssize_t begin = quick.type->tp_weaklistoffset;  /* the first field after the vtable */
    PyObject *attributes = *field(self, quick.type->tp_dictoffset);
    PyObject *objects[2];

    PyObject_GC_UnTrack(self);
    if (*field(self, begin) != NULL) {
        PyObject_ClearWeakRefs(self);
    }
    for (int i = 0; i < quick.number; i++) {
        objects[i] = *field(self, quick.objects[i]);
    }
    memset(field(self, begin), 0, quick.type->tp_basicsize - begin);
    for (int i = 0; i < quick.number; i++) {
        *field(self, quick.objects[i]) = Py_NewRef(Py_None);
    }
    /* From here on code may run that creates and drops instances. */
    Py_XDECREF(attributes);
    for (int i = 0; i < quick.number; i++) {
        Py_DECREF(objects[i]);
    }
    if (quick.count == MOST_SPARES) {
        for (int i = 0; i < quick.number; i++) {
            Py_CLEAR(*field(self, quick.objects[i]));
        }
        quick.type->tp_free(self);
    } else {
        quick.spares[quick.count++] = self;
    }
}

static inline PyObject *reuse(PyObject *spare)
{
    PyObject_Init(spare, quick.type);
    PyObject_GC_Track(spare);
    return spare;
}

static PyObject *construct(PyObject *type, PyObject *const *args, size_t nargsf,
                           PyObject *kwnames)
{
    Py_ssize_t nargs = PyVectorcall_NARGS(nargsf);
    Py_ssize_t nkwargs = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    PyObject *positional = NULL, *named = NULL, *result = NULL;

    if (nargs + nkwargs == 0 && quick.count > 0) {
        return reuse(quick.spares[--quick.count]);
    }
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

/* The error of `await lock`, in asyncio's words, which have no module name. The class has no __await__,
   so that a lock is not mistaken for an awaitable. */
static PyObject *refuse_await(PyObject *self)
{
    return PyErr_Format(PyExc_TypeError,
                        PY_VERSION_HEX >= 0x030E0000 ? "'%.100s' object can't be awaited"
                                                     : "object %.100s can't be used in 'await' expression",
                        strrchr(Py_TYPE(self)->tp_name, '.') + 1);
}

static PyAsyncMethods not_awaitable = {.am_await = refuse_await};

/* ---- __aexit__ ----

   unittest's enterAsyncContext() awaits __aexit__ only if it is a coroutine function: with a plain
   method descriptor, the lock would never be released. So it is an object that passes other
   attributes, such as __code__, on to the pure-Python implementation's function. The other methods
   are plain descriptors, whose calls the interpreter specialises, which saves 50 instructions. */

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyTypeObject *type;   /* whose method this is */
    PyObject *descriptor; /* the method itself */
    PyObject *function;   /* the pure-Python implementation's */
} Exit;

static PyObject *exit_by_method(PyObject *exit, PyObject *const *args, size_t nargsf,
                                PyObject *kwnames)
{
    return PyObject_Vectorcall(((Exit *)exit)->descriptor, args, nargsf, kwnames);
}

/* The primitive, if it is of the exact class and there are three arguments; or NULL. Borrowed. */
static inline PyObject *simple_exit_of(PyObject *exit, PyObject *const *args, size_t nargsf,
                                       PyObject *kwnames)
{
    return PyVectorcall_NARGS(nargsf) == 4 && kwnames == NULL
                   && Py_IS_TYPE(args[0], ((Exit *)exit)->type)
               ? args[0]
               : NULL;
}

static PyObject *exit_get(PyObject *self, PyObject *object, PyObject *Py_UNUSED(type))
{
    return object == NULL ? Py_NewRef(self) : PyMethod_New(self, object);
}

static PyObject *exit_getattro(PyObject *self, PyObject *name)
{
    PyObject *value = PyObject_GenericGetAttr(self, name);
    if (value == NULL && PyErr_ExceptionMatches(PyExc_AttributeError)) {
        PyErr_Clear();
        value = PyObject_GetAttr(((Exit *)self)->function, name);
    }
    return value;
}

static PyObject *exit_repr(PyObject *self)
{
    return PyObject_Repr(((Exit *)self)->descriptor);
}

static PyTypeObject exit_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "aiofastlock.Exit",
    .tp_basicsize = sizeof(Exit),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_METHOD_DESCRIPTOR
                | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_vectorcall_offset = offsetof(Exit, vectorcall),
    .tp_call = PyVectorcall_Call,
    .tp_descr_get = exit_get,
    .tp_getattro = exit_getattro,
    .tp_repr = exit_repr,
};

static inline int set_exit(PyTypeObject *type, PyObject *pure, vectorcallfunc vectorcall)
{
    if (PyType_Ready(&exit_type) < 0) {
        return -1; /* pragma: no cover - no memory at import */
    }
    Exit *exit = PyObject_New(Exit, &exit_type);
    if (exit == NULL) {
        return -1; /* pragma: no cover - no memory at import */
    }
    exit->vectorcall = vectorcall;
    exit->type = type;
    exit->descriptor = Py_XNewRef(PyDict_GetItemString(type->tp_dict, "__aexit__"));
    exit->function = PyObject_GetAttrString(pure, "__aexit__");
    int failed = PyErr_Occurred()
                 || PyDict_SetItemString(type->tp_dict, "__aexit__", (PyObject *)exit) < 0;
#ifdef Py_GIL_DISABLED
    Py_SET_REFCNT((PyObject *)exit, PY_SSIZE_T_MAX); /* immortal: threads would contend for its count */
#else
    Py_DECREF(exit);
#endif
    PyType_Modified(type);
    return failed ? -1 : 0;
}

/* Give a public class the name under which users import it, in reprs and pickles too, and copies of
   the methods that it inherits: a base class's method checks the type of `self` at each call. */
static inline int finish_public_class(PyTypeObject *type, const char *name)
{
    type->tp_name = name;
    type->tp_as_async = &not_awaitable;
    for (PyTypeObject *base = type->tp_base; base != &PyBaseObject_Type; base = base->tp_base) {
        for (PyMethodDef *method = base->tp_methods; method && method->ml_name; method++) {
            PyObject *descriptor = PyDescr_NewMethod(type, method);
            if (descriptor == NULL) {
                return -1; /* pragma: no cover - no memory at import */
            }
            if (PyDict_GetItemString(type->tp_dict, method->ml_name) == NULL
                && PyDict_SetItemString(type->tp_dict, method->ml_name, descriptor) < 0) {
                return -1; /* pragma: no cover - no memory at import */
            }
            Py_DECREF(descriptor);
        }
    }
    PyType_Modified(type);
    return 0;
}

/* Removes what Cython keeps in the dict of a class for the import of modules that cimport it. */
static inline int hide_vtable(PyTypeObject *type)
{
    for (; type != &PyBaseObject_Type; type = type->tp_base) {
        if (PyDict_GetItemString(type->tp_dict, "__pyx_vtable__") != NULL
            && PyDict_DelItemString(type->tp_dict, "__pyx_vtable__") < 0) {
            return -1; /* pragma: no cover - no memory at import */
        }
        PyType_Modified(type);
    }
    return 0;
}

static inline void construct_without_init(PyTypeObject *type)
{
    type->tp_vectorcall = construct;
}

/* `loop` and, unless it is NULL, `other` are the fields of `one` that are Python objects. */
static inline void keep_spares(PyTypeObject *type, PyObject *one, PyObject **loop, PyObject **other)
{
#ifndef Py_GIL_DISABLED
    quick.type = type;
    quick.dealloc = type->tp_dealloc;
    quick.objects[quick.number++] = (char *)loop - (char *)one;
    if (other != NULL) {
        quick.objects[quick.number++] = (char *)other - (char *)one;
    }
    type->tp_dealloc = keep_or_dealloc;
#endif
}

#define loop_field(primitive) (&(primitive)->loop)

#endif
