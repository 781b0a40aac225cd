/* Methods in C that are functions of Python to those who look at them. Included by _lock.pyx alone. */
#ifndef AIOFASTLOCK_METHOD_H
#define AIOFASTLOCK_METHOD_H

#include <Python.h>

#include "_class.h"

/* ---- What C serves ----

   A method in C does what asyncio's does with the object's own fields. asyncio's looks up attributes, and
   a subclass, an instance or a patch of the class may override those. Then the method of the pure-Python
   implementation is called, which looks them up too. The same is true of an object whose attributes are
   not what C has fields for, such as a semaphore with 2.5 permits: they are in its __dict__. */

static struct {
    const char *text;
    unsigned int flag;
    PyObject *name; /* interned */
} overridable[] = {
    {"acquire", ACQUIRE, NULL},
    {"locked", LOCKED, NULL},
    {"release", RELEASE, NULL},
    {"wait", WAIT, NULL},
    {"_bound_value", INTERNALS, NULL},
    {"_get_loop", INTERNALS, NULL},
    {"_lock", INTERNALS, NULL},
    {"_locked", INTERNALS, NULL},
    {"_loop", INTERNALS, NULL},
    {"_notify", INTERNALS, NULL},
    {"_parties", INTERNALS, NULL},
    {"_state", INTERNALS, NULL},
    {"_value", INTERNALS, NULL},
    {"_waiters", INTERNALS, NULL},
    {"_wake_up_first", INTERNALS, NULL},
    {"_wake_up_next", INTERNALS, NULL},
    {"__getattr__", INTERNALS, NULL},
    {"__getattribute__", INTERNALS, NULL},
    {"__setattr__", INTERNALS, NULL},
    {"_finished", QUEUE, NULL},
    {"_get", QUEUE, NULL},
    {"_getters", QUEUE, NULL},
    {"_init", QUEUE, NULL},
    {"_is_shutdown", QUEUE, NULL},
    {"_maxsize", QUEUE, NULL},
    {"_put", QUEUE, NULL},
    {"_putters", QUEUE, NULL},
    {"_queue", QUEUE, NULL},
    {"_unfinished_tasks", QUEUE, NULL},
    {"_wakeup_next", QUEUE, NULL},
    {"empty", QUEUE, NULL},
    {"full", QUEUE, NULL},
    {"get_nowait", QUEUE_NOWAIT, NULL},
    {"maxsize", QUEUE, NULL},
    {"put_nowait", QUEUE_NOWAIT, NULL},
    {"qsize", QUEUE, NULL},
    {"__init__", CONSTRUCTION, NULL}, /* counts only in the class that super() leads to */
};

#define OVERRIDABLE ((int)(sizeof(overridable) / sizeof(overridable[0])))

/* The public classes, and what they have under those names. */
static struct {
    PyTypeObject *type;
    PyObject *originals[OVERRIDABLE];
} classes[16];

static int number_of_classes = 0;

/* By version tag, which a class never shares with another one, nor with itself before a change:
   tag << 8 | flags. */
#define VERDICTS 64
static uint64_t verdicts[VERDICTS];

#ifdef Py_GIL_DISABLED
#define load_verdict(tag) _Py_atomic_load_uint64_relaxed(&verdicts[(tag) % VERDICTS])
#define load_tag(method) _Py_atomic_load_uint_relaxed(&(method)->tag)
#define store_tag(method, value) _Py_atomic_store_uint_relaxed(&(method)->tag, value)
#define store_verdict(tag, verdict) _Py_atomic_store_uint64_relaxed(&verdicts[(tag) % VERDICTS], verdict)
#else
#define load_verdict(tag) verdicts[(tag) % VERDICTS]
#define load_tag(method) ((method)->tag)
#define store_tag(method, value) ((method)->tag = (value))
#define store_verdict(tag, verdict) (verdicts[(tag) % VERDICTS] = (verdict))
#endif

static PyObject *attribute_or_null(PyTypeObject *type, PyObject *name)
{
    PyObject *found = PyObject_GetAttr((PyObject *)type, name);
    if (found == NULL) {
        PyErr_Clear();
    }
    return found;
}

static unsigned int differences(PyTypeObject *type, int i)
{
    unsigned int flags = 0;
    for (int j = 0; j < OVERRIDABLE; j++) {
        PyObject *found = attribute_or_null(type, overridable[j].name);
        if (found != classes[i].originals[j]) {
            flags |= overridable[j].flag;
        }
        Py_XDECREF(found);
    }
    return flags;
}

static int is_public(PyTypeObject *type)
{
    for (int i = 0; i < number_of_classes; i++) {
        if (type == classes[i].type) {
            return 1;
        }
    }
    return 0;
}

/* Whether super() of a public class finds a release() that is none of a public class, before that of its
   public base class. */
static int is_release_between(PyTypeObject *type, PyTypeObject *public, PyTypeObject *base)
{
    PyObject *classes_in_order = type->tp_mro;
    int after = 0, found = 0;
    for (Py_ssize_t i = 0; !found && i < PyTuple_GET_SIZE(classes_in_order); i++) {
        PyTypeObject *cls = (PyTypeObject *)PyTuple_GET_ITEM(classes_in_order, i);
        if (cls == base) {
            break;
        }
        PyObject *namespace = after && !is_public(cls) ? PyObject_GetAttrString((PyObject *)cls, "__dict__") : NULL;
        found = namespace != NULL && PyMapping_HasKeyString(namespace, "release");
        Py_XDECREF(namespace);
        after |= cls == public;
    }
    return found;
}

static unsigned int judge_type(PyTypeObject *type, unsigned int tag)
{
    unsigned int flags = ANYTHING;
    for (int i = number_of_classes - 1; i >= 0; i--) { /* subclasses first */
        PyTypeObject *public = classes[i].type;
        if (PyType_IsSubtype(type, public)) {
            flags = differences(type, i);
            for (int j = 0; j < i; j++) { /* the class that super() leads to */
                PyTypeObject *base = classes[j].type;
                if (PyType_IsSubtype(public, base)
                    && (differences(base, j) || is_release_between(type, public, base))) {
                    flags |= INTERNALS;
                }
            }
            break;
        }
    }
    if (tag != 0) {
        store_verdict(tag, (uint64_t)tag << 8 | flags);
    }
    return flags;
}

static inline unsigned int overridden_by_type(PyTypeObject *type)
{
    unsigned int tag = tag_of(type); /* read first: a change meanwhile gives another one */
    uint64_t verdict = load_verdict(tag);
    return verdict >> 8 == tag && tag != 0 ? (unsigned int)verdict & 0xFF : judge_type(type, tag);
}

static unsigned int overridden_by(PyObject *attributes)
{
    unsigned int flags = 0;
    PyObject *key, *value;
    Py_ssize_t position = 0;
    BEGIN_SECTION(attributes);
    while (PyDict_Next(attributes, &position, &key, &value)) {
        int interned = PyUnicode_CheckExact(key) && PyUnicode_CHECK_INTERNED(key);
        for (int i = 0; i < OVERRIDABLE; i++) {
            if (key == overridable[i].name
                || (!interned && PyUnicode_Check(key)
                    && PyUnicode_Compare(key, overridable[i].name) == 0)) {
                flags |= overridable[i].flag;
            }
        }
    }
    END_SECTION();
    return flags;
}

#define dict_of(self, type) pointer_in((PyObject **)((char *)(self) + (type)->tp_dictoffset))

/* Whether C serves this object, which should be of that class, where nothing of `mask` is overridden. */
static inline int is_served(PyObject *self, PyTypeObject *type, unsigned int mask)
{
    if (!PyObject_TypeCheck(self, type)) {
        return 0;
    }
    unsigned int flags = overridden_by_type(Py_TYPE(self));
    PyObject *attributes = dict_of(self, type);
    if (attributes != NULL) {
        flags |= overridden_by(attributes);
    }
    return !(flags & mask);
}

/* Whether it is an instance of exactly that class, of which nothing is overridden. */
static inline int is_plain(PyObject *self, PyTypeObject *type)
{
    return Py_IS_TYPE(self, type) && is_served(self, type, ANYTHING);
}

/* The error of `await lock`, in asyncio's words, which have no module name. The class has no __await__,
   so that a lock is not mistaken for an awaitable. */
static PyObject *refuse_await(PyObject *self)
{
    return PyErr_Format(PyExc_TypeError,
                        PY_VERSION_HEX >= 0x030E0000 ? "'%.100s' object can't be awaited"
                                                     : "object %.100s can't be used in 'await' expression",
                        Py_TYPE(self)->tp_name);
}

/* ---- Methods ----

   asyncio's methods are functions of Python, and programs see it: they ask inspect whether a method is a
   coroutine function, take weak references to bound methods, pickle and patch them. So a method is an
   object that says it is a function and has the attributes of one: of the pure-Python implementation's.
   A call costs more than that of a method descriptor, for which the interpreter has an instruction of
   its own. */

typedef PyObject *(*fast_method)(PyObject *self);
typedef PyObject *(*fast_method_with_argument)(PyObject *self, PyObject *argument);

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    fast_method fast;
    fast_method_with_argument with_argument; /* or NULL */
    size_t arguments;                        /* of a call that `fast` serves, with self */
    PyTypeObject *type;                      /* whose method it is */
    unsigned int tag;                        /* of the class whose objects C was last found to serve */
    unsigned int mask;                       /* of what the function looks up */
    Py_ssize_t attributes;                   /* the offset of an object's __dict__ */
    PyObject *function;                      /* the pure-Python implementation's */
    PyObject *weak_references;
} Method;

/* Off the fast path: the object has attributes, or is of another class than the last one, or the class has
   changed. */
static PyObject *method_call_after_look(Method *method, PyObject *const *args, size_t nargsf,
                                        PyObject *kwnames)
{
    if (method->fast != NULL && kwnames == NULL
        && (size_t)PyVectorcall_NARGS(nargsf) == method->arguments) {
        unsigned int tag = tag_of(Py_TYPE(args[0])); /* read first */
        if (is_served(args[0], method->type, method->mask)) {
            if (tag != 0 && dict_of(args[0], method->type) == NULL) {
                store_tag(method, tag);
            }
            return method->fast(args[0]);
        }
    }
    return PyObject_Vectorcall(method->function, args, nargsf, kwnames);
}

static PyObject *method_call(PyObject *callable, PyObject *const *args, size_t nargsf,
                             PyObject *kwnames)
{
    Method *method = (Method *)callable;
    if ((nargsf & ~PY_VECTORCALL_ARGUMENTS_OFFSET) == method->arguments && kwnames == NULL
        && tag_of(Py_TYPE(args[0])) == load_tag(method)
        && pointer_in((PyObject **)((char *)args[0] + method->attributes)) == NULL) {
        return method->fast(args[0]);
    }
    return method_call_after_look(method, args, nargsf, kwnames);
}

static PyObject *method_call_with_argument(PyObject *callable, PyObject *const *args, size_t nargsf,
                                           PyObject *kwnames)
{
    Method *method = (Method *)callable;
    if (PyVectorcall_NARGS(nargsf) == 2 && kwnames == NULL
        && is_served(args[0], method->type, method->mask)) {
        return method->with_argument(args[0], args[1]);
    }
    return method_call(callable, args, nargsf, kwnames);
}

static PyObject *method_get(PyObject *self, PyObject *object, PyObject *Py_UNUSED(type))
{
    return object == NULL ? Py_NewRef(self) : PyMethod_New(self, object);
}

static PyObject *method_getattro(PyObject *self, PyObject *name)
{
    PyObject *value = PyObject_GenericGetAttr(self, name);
    if (value == NULL && PyErr_ExceptionMatches(PyExc_AttributeError)) {
        PyErr_Clear();
        value = PyObject_GetAttr(((Method *)self)->function, name);
    }
    return value;
}

static int method_setattro(PyObject *self, PyObject *name, PyObject *value)
{
    PyObject *own = PyDict_GetItemWithError(Py_TYPE(self)->tp_dict, name);
    if (own != NULL || PyErr_Occurred()) {
        return own == NULL ? -1 : PyObject_GenericSetAttr(self, name, value);
    }
    return PyObject_SetAttr(((Method *)self)->function, name, value);
}

static PyObject *method_repr(PyObject *self)
{
    PyObject *qualname = PyObject_GetAttrString(self, "__qualname__");
    PyObject *text = qualname == NULL ? NULL
                                      : PyUnicode_FromFormat("<function %U at %p>", qualname, self);
    Py_XDECREF(qualname);
    return text;
}

static void method_dealloc(PyObject *self)
{
    if (((Method *)self)->weak_references != NULL) {
        PyObject_ClearWeakRefs(self);
    }
    Py_XDECREF(((Method *)self)->function);
    PyObject_Free(self);
}

static PyObject *method_class(PyObject *Py_UNUSED(self), void *Py_UNUSED(closure))
{
    return Py_NewRef((PyObject *)&PyFunction_Type);
}

static PyObject *method_module(PyObject *Py_UNUSED(self), void *Py_UNUSED(closure))
{
    return PyUnicode_FromString("aiofastlock");
}

static PyObject *method_qualname(PyObject *self, void *Py_UNUSED(closure))
{
    PyObject *name = PyObject_GetAttrString(((Method *)self)->function, "__name__");
    if (name == NULL) {
        return NULL;
    }
    PyObject *qualname = PyUnicode_FromFormat("%s.%U", ((Method *)self)->type->tp_name, name);
    Py_DECREF(name);
    return qualname;
}

static PyObject *method_reduce(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyObject_GetAttrString(self, "__qualname__"); /* pickled by its name, like a function */
}

static PyObject *function_attribute(PyObject *self, void *name)
{
    return PyObject_GetAttrString(((Method *)self)->function, name);
}

#define FUNCTION_ATTRIBUTE(name) {name, function_attribute, NULL, NULL, name}

static PyGetSetDef method_attributes[] = {
    {"__class__", method_class, NULL, NULL, NULL},
    {"__module__", method_module, NULL, NULL, NULL},
    {"__qualname__", method_qualname, NULL, NULL, NULL},
    FUNCTION_ATTRIBUTE("__annotations__"),
    FUNCTION_ATTRIBUTE("__closure__"),
    FUNCTION_ATTRIBUTE("__code__"),
    FUNCTION_ATTRIBUTE("__defaults__"),
    FUNCTION_ATTRIBUTE("__dict__"),
    FUNCTION_ATTRIBUTE("__doc__"),
    FUNCTION_ATTRIBUTE("__globals__"),
    FUNCTION_ATTRIBUTE("__kwdefaults__"),
    FUNCTION_ATTRIBUTE("__name__"),
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef method_methods[] = {
    {"__reduce__", method_reduce, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject method_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "function",
    .tp_basicsize = sizeof(Method),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_METHOD_DESCRIPTOR
                | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_vectorcall_offset = offsetof(Method, vectorcall),
    .tp_weaklistoffset = offsetof(Method, weak_references),
    .tp_call = PyVectorcall_Call,
    .tp_dealloc = method_dealloc,
    .tp_descr_get = method_get,
    .tp_getattro = method_getattro,
    .tp_setattro = method_setattro,
    .tp_getset = method_attributes,
    .tp_methods = method_methods,
    .tp_repr = method_repr,
};

/* Add a method that `fast` serves if it is called with that number of arguments, self included. */
static int add_method(PyTypeObject *type, PyObject *function, fast_method fast,
                      size_t arguments, unsigned int mask,
                      fast_method_with_argument with_argument)
{
    if (PyType_Ready(&method_type) < 0) {
        return -1; /* pragma: no cover - no memory at import */
    }
    PyObject *name = PyObject_GetAttrString(function, "__name__");
    Method *method = PyObject_New(Method, &method_type);
    if (name == NULL || method == NULL) {
        return -1; /* pragma: no cover - no memory at import */
    }
    method->vectorcall = with_argument == NULL ? method_call : method_call_with_argument;
    method->fast = fast;
    method->with_argument = with_argument;
    method->type = type;
    method->tag = UINT_MAX; /* of no class */
    method->mask = mask;
    method->attributes = type->tp_dictoffset;
    method->arguments = arguments;
    method->function = Py_NewRef(function);
    method->weak_references = NULL;
    int failed = PyObject_SetAttr((PyObject *)type, name, (PyObject *)method);
    Py_DECREF(name);
#ifdef Py_GIL_DISABLED
    Py_SET_REFCNT((PyObject *)method, PY_SSIZE_T_MAX); /* immortal: threads would contend for it */
#else
    Py_DECREF(method);
#endif
    return failed;
}

static PyGetSetDef attributes_of_instances = {
    "__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL};

/* Let the __dict__ of instances be set; Cython's is read-only. */
static inline int let_dict_be_set(PyTypeObject *type)
{
    PyObject *attributes = PyDescr_NewGetSet(type, &attributes_of_instances);
    int failed = attributes == NULL
                 || PyDict_SetItemString(type->tp_dict, "__dict__", attributes) < 0;
    Py_XDECREF(attributes);
    PyType_Modified(type);
    return -failed;
}

/* Comes last: what the class has now is what C serves. */
static int finish_public_class(PyTypeObject *type)
{
    if (let_dict_be_set(type->tp_base) < 0) {
        return -1; /* pragma: no cover - no memory at import */
    }
    type->tp_as_async->am_await = refuse_await;
    /* Without a look-up of __init__, until that is patched. super() finds that of the public class. */
    type->tp_init = type->tp_base->tp_init;
    if (PyDict_DelItemString(type->tp_base->tp_dict, "__init__") < 0) {
        return -1; /* pragma: no cover - no memory at import */
    }
    PyType_Modified(type->tp_base);
    classes[number_of_classes].type = type;
    for (int i = 0; i < OVERRIDABLE; i++) {
        if (overridable[i].name == NULL
            && (overridable[i].name = PyUnicode_InternFromString(overridable[i].text)) == NULL) {
            return -1; /* pragma: no cover - no memory at import */
        }
        classes[number_of_classes].originals[i] = attribute_or_null(type, overridable[i].name);
    }
    number_of_classes++;
    return 0;
}

/* What Cython keeps in the dict of a class, for the import of modules that cimport it. */

static inline int hide_vtable(PyTypeObject *type)
{
    if (PyDict_DelItemString(type->tp_dict, "__pyx_vtable__") < 0) {
        return -1; /* pragma: no cover - no memory at import */
    }
    PyType_Modified(type);
    return 0;
}

static inline int show_vtable(PyTypeObject *type, PyObject *vtable)
{
    return PyDict_SetItemString(type->tp_dict, "__pyx_vtable__", vtable);
}

#endif
