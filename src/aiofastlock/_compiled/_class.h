/* What the public classes need of the C API and Cython cannot express. */
#ifndef AIOFASTLOCK_CLASS_H
#define AIOFASTLOCK_CLASS_H

#include <Python.h>

#include "_guard.h"

/* Cython creates a __dict__ for every instance. Without one, objects are smaller and the interpreter
   can specialise the look-up of their methods. It is created when an attribute is set, and dropped
   here when the instance is deallocated, since Cython would clear it by recursion. */
#define drop_attributes(primitive) Py_CLEAR((primitive)->__dict__)
#define attributes_of(primitive) Py_NewRef((primitive)->__dict__)
#define has_attributes(primitive) (pointer_in(&(primitive)->__dict__) != NULL)

/* What a subclass, an instance or a patch may override of what a method looks up. _method.h has the names. */
enum { ACQUIRE = 1, RELEASE = 2, LOCKED = 4, WAIT = 8, INTERNALS = 16, ANYTHING = 31, CONSTRUCTION = 32,
       QUEUE = 64, QUEUE_NOWAIT = 128 };

#ifdef Py_GIL_DISABLED
#define tag_of(type) _Py_atomic_load_uint_relaxed(&(type)->tp_version_tag)
#else
#define tag_of(type) ((type)->tp_version_tag)
#endif

/* ---- C() with no arguments ----

   C() skips __init__, which has nothing to do then, and uses the memory of a deallocated instance:
   those are kept, untracked by the garbage collector, with all fields zero or None as in a new
   instance. Not instances of subclasses, and not in free-threaded builds. */

#define MOST_SPARES 64
#define MOST_OBJECTS 5

static struct {
    PyTypeObject *type;         /* the class of this module that keeps spares, if any */
    destructor dealloc;         /* Cython's */
    Py_ssize_t objects[MOST_OBJECTS]; /* the offsets of the fields that are Python objects */
    int number;                 /* of those fields */
    int count, most;            /* of spares */
    PyObject *spares[MOST_SPARES];
} quick = {.most = MOST_SPARES};

#define field(self, offset) ((PyObject **)((char *)(self) + (offset)))

static void free_spare(PyObject *spare)
{
    for (int i = 0; i < quick.number; i++) {
        Py_CLEAR(*field(spare, quick.objects[i]));
    }
    quick.type->tp_free(spare);
}

/* While instances are recorded, all are made and deallocated in full. */
static inline void keep_no_spares(int none)
{
    quick.most = none ? 0 : MOST_SPARES;
    while (quick.count > quick.most) {
        free_spare(quick.spares[--quick.count]);
    }
}

#ifndef Py_GIL_DISABLED

static void keep(PyObject *self)
{
    PyTypeObject *type = quick.type;
    Py_ssize_t begin = type->tp_weaklistoffset;  /* the first field after the vtable */
    PyObject *attributes = *field(self, type->tp_dictoffset);
    PyObject *objects[MOST_OBJECTS];

    if (*field(self, begin) != NULL) {
        PyObject_ClearWeakRefs(self);
    }
    for (int i = 0; i < quick.number; i++) {
        objects[i] = *field(self, quick.objects[i]);
    }
    memset(field(self, begin), 0, type->tp_basicsize - begin);
    for (int i = 0; i < quick.number; i++) {
        *field(self, quick.objects[i]) = Py_NewRef(Py_None);
    }
    /* From here on code may run that creates and drops instances. */
    Py_XDECREF(attributes);
    for (int i = 0; i < quick.number; i++) {
        Py_DECREF(objects[i]);
    }
    if (quick.count >= quick.most) {
        free_spare(self);
    } else {
        quick.spares[quick.count++] = self;
    }
    Py_DECREF(type);
}

static inline void keep_or_free(PyObject *self)
{
    if (quick.count < quick.most && *field(self, quick.objects[0]) != NULL) {
        keep(self);
    } else { /* or its allocation failed half-way */
        quick.dealloc(self);
        Py_DECREF(quick.type);
    }
}

static void keep_or_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    int can_be_kept = type == quick.type;
    if (can_be_kept && type->tp_finalize != NULL) { /* a patch has added __del__() */
        if (PyObject_CallFinalizerFromDealloc(self) < 0) {
            return; /* which has kept the object */
        }
        can_be_kept = 0; /* it would not be called again */
    }
    if (!can_be_kept) {
        quick.dealloc(self);
        Py_DECREF(type);
        return;
    }
    PyObject_GC_UnTrack(self);
#if PY_VERSION_HEX < 0x030E0000 /* later, every deallocation does this */
    Py_TRASHCAN_BEGIN(self, type->tp_dealloc) /* a long chain of queues or keys does not recurse */
    keep_or_free(self);
    Py_TRASHCAN_END
#else
    keep_or_free(self);
#endif
}

#endif

/* The slots of the public classes of this module, which a patch of __init__ or __new__ changes. */
static struct {
    PyTypeObject *type;
    newfunc new;
    initproc init;
} unpatched[3];

static int number_of_unpatched = 0;

static inline int is_unpatched(PyTypeObject *type)
{
    for (int i = 0; i < number_of_unpatched; i++) {
        if ((i == 0 || type == unpatched[i].type) /* the others are subclasses of the first */
            && (unpatched[i].type->tp_init != unpatched[i].init
                || unpatched[i].type->tp_new != unpatched[i].new)) {
            return 0;
        }
    }
    return 1;
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

    int plainly = nargs + nkwargs == 0 && is_unpatched((PyTypeObject *)type);
    if (plainly && quick.count > 0 && (PyTypeObject *)type == quick.type) {
        return reuse(quick.spares[--quick.count]);
    }
    positional = PyTuple_New(nargs);
    if (positional == NULL) {
        return NULL;
    }
    if (plainly) {
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

static inline void construct_without_init(PyTypeObject *type)
{
    type->tp_vectorcall = construct;
    unpatched[number_of_unpatched].type = type;
    unpatched[number_of_unpatched].new = type->tp_new;
    unpatched[number_of_unpatched++].init = type->tp_init;
}

/* The class of `one`, of whose fields these are Python objects. */
static inline void keep_spares(PyObject *one, PyObject ***fields, int number)
{
#ifndef Py_GIL_DISABLED
    quick.type = Py_TYPE(one);
    quick.dealloc = quick.type->tp_base->tp_dealloc;
    quick.number = number;
    for (int i = 0; i < number; i++) {
        quick.objects[i] = (char *)fields[i] - (char *)one;
    }
    quick.type->tp_dealloc = keep_or_dealloc;
#endif
}

#define loop_field(primitive) (&(primitive)->loop)

#endif
