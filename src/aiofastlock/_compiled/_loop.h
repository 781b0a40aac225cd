/* asyncio's own loops and futures, without the Python code between them.

   What a wait and a wake-up need of a loop and a future is done here as asyncio's own methods do it,
   if those are the methods that would be called. Otherwise the methods are called. */
#ifndef AIOFASTLOCK_LOOP_H
#define AIOFASTLOCK_LOOP_H

#include <Python.h>
#include <structmember.h>

#include "_class.h"
#include "_lock.h" /* what a thread keeps */

static struct { /* interned */
    PyObject *Future, *Handle, *base_events, *blocking, *call_soon, *check_closed, *closed,
        *create_future, *debug, *events, *futures, *get_debug, *get_running_loop, *loop, *ready, *run,
        *schedule, *set_result, *thread_id;
} names;

static struct { /* asyncio's modules, and their namespaces */
    PyObject *events, *futures, *of_base_events, *of_events, *of_futures;
} modules;

/* ---- Loops ----

   `judge` is functions_of() of _internals.py: it returns the functions that loops of a class use, if
   all of them are CPython's own. It is called again when the class or asyncio.Handle has changed, and
   so has another version tag (or 0, until an attribute is looked up), or when the code of one of the
   functions has. What the loop itself and asyncio's modules hide is looked up each time. */

static PyObject *judge = NULL;
static PyTypeObject *handle_type = NULL; /* asyncio.Handle, or NULL if it is not what it should be */

#define MOST_FUNCTIONS 8

kept struct { /* the class that was judged last */
    PyTypeObject *type;
    unsigned int tag;
    unsigned int handle_tag;
    Py_ssize_t number; /* of functions; 0 if one of them is not asyncio's */
    PyFunctionObject *functions[MOST_FUNCTIONS];
    PyObject *codes[MOST_FUNCTIONS];
} last;

static int judge_loop(PyObject *loop)
{
    PyTypeObject *type = Py_TYPE(loop);
    /* Read first: a class that changes meanwhile is judged again next time. */
    unsigned int tag = tag_of(type), handle_tag = tag_of(handle_type);
    PyObject *verdict = PyObject_CallOneArg(judge, (PyObject *)type);
    if (verdict == NULL) {
        return -1;
    }
    Py_ssize_t number = PyTuple_Check(verdict) && tag != 0 && handle_tag != 0 && may_keep()
                            ? PyTuple_GET_SIZE(verdict) : 0;
    last.type = type;
    last.tag = tag;
    last.handle_tag = handle_tag;
    last.number = number;
    for (Py_ssize_t i = 0; i < number; i++) {
        PyObject *function = PyTuple_GET_ITEM(verdict, i);
        Py_XSETREF(last.functions[i], (PyFunctionObject *)Py_NewRef(function));
        Py_XSETREF(last.codes[i], Py_NewRef(PyFunction_GET_CODE(function)));
    }
    Py_DECREF(verdict);
    return number > 0;
}

static inline int is_unchanged(PyTypeObject *type)
{
    if (type != last.type || tag_of(type) != last.tag || tag_of(handle_type) != last.handle_tag) {
        return 0;
    }
    for (Py_ssize_t i = 0; i < last.number; i++) {
        if (pointer_in(&last.functions[i]->func_code) != last.codes[i]) {
            return 0;
        }
    }
    return 1;
}

#ifdef Py_GIL_DISABLED
static void forget_loops(void)
{
    for (int i = 0; i < MOST_FUNCTIONS; i++) {
        Py_CLEAR(last.functions[i]);
        Py_CLEAR(last.codes[i]);
    }
    last.type = NULL;
}
#endif

/* Whether the class of a loop is asyncio's in what counts: 1 or 0, or -1 with an exception. */
static inline int is_asyncios(PyObject *loop)
{
    if (handle_type == NULL) {
        return 0;
    }
    return is_unchanged(Py_TYPE(loop)) ? last.number > 0 : judge_loop(loop);
}

/* Borrowed; NULL, perhaps with an exception. */
#define own_attribute(attributes, name) PyDict_GetItemWithError(attributes, name)

static inline int has_own(PyObject *attributes, PyObject *name)
{
    return own_attribute(attributes, name) != NULL || PyErr_Occurred();
}

/* Whether attributes of the loop hide methods that call_soon() is made of. */
static inline int hides_methods(PyObject *attributes)
{
    return has_own(attributes, names.call_soon) || has_own(attributes, names.schedule)
           || has_own(attributes, names.check_closed) || has_own(attributes, names.get_debug);
}

/* A loop's attribute, referenced; NULL if there is none, perhaps with an exception. */
static inline PyObject *attribute_of_loop(PyObject *attributes, PyObject *name)
{
#ifdef Py_GIL_DISABLED
    PyObject *value; /* another thread may replace it */
    PyDict_GetItemRef(attributes, name, &value);
    return value;
#else
    return Py_XNewRef(own_attribute(attributes, name));
#endif
}

/* Whether the loop runs in this thread. In another one, it may take a handle off its queue while that
   is not finished. */
static inline int runs_here(PyObject *attributes)
{
#ifdef Py_GIL_DISABLED
    PyObject *identifier = attribute_of_loop(attributes, names.thread_id);
    if (identifier == NULL) {
        return 0;
    }
    int here = PyLong_CheckExact(identifier)
               && PyLong_AsUnsignedLong(identifier) == PyThread_get_thread_ident();
    Py_DECREF(identifier);
    return here;
#else
    (void)attributes;
    return 1;
#endif
}

/* loop._ready, if loop.call_soon() would only append an asyncio.Handle to it; or None. */
static PyObject *ready_handles(PyObject *loop)
{
    int asyncios = is_asyncios(loop);
    if (asyncios <= 0) {
        return asyncios < 0 ? NULL : Py_NewRef(Py_None);
    }
    PyObject *attributes = PyObject_GenericGetDict(loop, NULL);
    if (attributes == NULL) {
        return NULL;
    }
    PyObject *ready = NULL;
    if (own_attribute(modules.of_base_events, names.events) == modules.events
        && own_attribute(modules.of_events, names.Handle) == (PyObject *)handle_type
        && !hides_methods(attributes) && own_attribute(attributes, names.debug) == Py_False
        && own_attribute(attributes, names.closed) == Py_False && runs_here(attributes)) {
        ready = attribute_of_loop(attributes, names.ready);
    }
    if (ready == NULL && !PyErr_Occurred()) {
        ready = Py_NewRef(Py_None);
    }
    Py_DECREF(attributes);
    return ready;
}

/* The running loop, or None, by the function that asyncio's own locks would call at this moment. */
static PyObject *running_loop(void)
{
    PyObject *function = own_attribute(modules.of_events, names.get_running_loop);
    if (function == NULL) {
        return PyErr_Occurred() ? NULL : PyObject_GetAttr(modules.events, names.get_running_loop);
    }
    Py_INCREF(function);
    PyObject *loop = PyObject_CallNoArgs(function);
    Py_DECREF(function);
    return loop;
}

/* ---- Futures ---- */

static PyTypeObject *future_type = NULL; /* NULL where asyncio has no C part */
static PyGetSetDef *blocking = NULL;     /* tells a task that `await` yielded the future */
static PyGetSetDef *callbacks = NULL;    /* a list of (callback, context), or None */
static PyGetSetDef *loop_of = NULL;
static PyObject *set_result_method = NULL;
static PyObject *remove_done_callback_method = NULL;
static PyObject *invalid_state_error = NULL;
static PyObject *no_arguments = NULL;
static PyTypeObject *deque_type = NULL;
static PyObject *deque_append = NULL;

/* loop.create_future() */
static PyObject *new_future(PyObject *loop)
{
    int asyncios = future_type != NULL ? is_asyncios(loop) : 0;
    if (asyncios > 0) {
        PyObject *attributes = PyObject_GenericGetDict(loop, NULL);
        if (attributes == NULL) {
            return NULL;
        }
        asyncios = !has_own(attributes, names.create_future)
                   && own_attribute(modules.of_base_events, names.futures) == modules.futures
                   && own_attribute(modules.of_futures, names.Future) == (PyObject *)future_type;
        Py_DECREF(attributes);
        if (PyErr_Occurred()) {
            return NULL;
        }
    }
    if (asyncios <= 0) {
        return asyncios < 0 ? NULL : PyObject_CallMethodNoArgs(loop, names.create_future);
    }
    /* future_type(loop=loop), without a new tuple */
    PyObject *future = NULL, *keywords = PyDict_New();
    if (keywords != NULL && PyDict_SetItem(keywords, names.loop, loop) == 0) {
        future = future_type->tp_new(future_type, no_arguments, keywords);
        if (future != NULL && future_type->tp_init(future, no_arguments, keywords) < 0) {
            Py_CLEAR(future);
        }
    }
    Py_XDECREF(keywords);
    return future;
}

/* future._asyncio_future_blocking = True */
static inline int set_blocking(PyObject *future)
{
    if (Py_IS_TYPE(future, future_type)) {
        return blocking->set(future, Py_True, blocking->closure);
    }
    return PyObject_SetAttr(future, names.blocking, Py_True);
}

/* future.set_result(result): 1, or 0 if it was done, or -1 with an exception. Calling done() first
   costs more. */
static int set_pending(PyObject *future, PyObject *result)
{
    PyObject *args[] = {future, result};
    PyObject *none = Py_IS_TYPE(future, future_type)
                         ? PyObject_Vectorcall(set_result_method, args, 2, NULL)
                         : PyObject_VectorcallMethod(names.set_result, args, 2, NULL);
    if (none != NULL) {
        Py_DECREF(none);
        return 1;
    }
    if (!PyErr_ExceptionMatches(invalid_state_error)) {
        return -1;
    }
    PyErr_Clear();
    return 0;
}

/* ---- Handles ----

   A future that is set calls loop.call_soon(callback, future, context=context). In asyncio's own loop
   that is five calls of Python functions, which create a handle and append it to loop._ready, and
   Handle._run() is a sixth: in all, a quarter of the time of a hand-off. So if a future has exactly
   one callback, usually its task's, that is taken off and appended to loop._ready in a handle
   implemented in C, and then the future is set. Future, callback, context and order are the same. */

/* The handle is an instance of a subclass of asyncio.Handle that has no fields of its own and one method:
   _run(), in C. The offsets of asyncio.Handle's slots are read from their descriptors. */
static struct {
    Py_ssize_t args, callback, cancelled, context, loop, repr, source_traceback;
} offsets;

static const struct {
    const char *name;
    Py_ssize_t *offset;
} slots[] = {
    {"_args", &offsets.args},
    {"_callback", &offsets.callback},
    {"_cancelled", &offsets.cancelled},
    {"_context", &offsets.context},
    {"_loop", &offsets.loop},
    {"_repr", &offsets.repr},
    {"_source_traceback", &offsets.source_traceback},
};

#define NUMBER_OF_SLOTS ((int)(sizeof(slots) / sizeof(slots[0])))
#define slot(handle, name) (*(PyObject **)((char *)(handle) + offsets.name))
#define numbered_slot(handle, i) (*(PyObject **)((char *)(handle) + *slots[i].offset))

static PyTypeObject *our_handle_type = NULL;
static PyObject *report = NULL; /* calls the loop's exception handler, in Python */

/* Not in free-threaded builds: another thread may still look at one that is deallocated. */
#ifndef Py_GIL_DISABLED
#define MOST_SPARE_HANDLES 32
#else
#define MOST_SPARE_HANDLES 0
#endif
static PyObject *spare_handles[MOST_SPARE_HANDLES + 1];
static int number_of_spare_handles = 0;

/* A new handle is cancelled until let_run() is called. */
static PyObject *new_handle(PyObject *loop, PyObject *callback, PyObject *argument,
                            PyObject *context)
{
    PyObject *self, *args = PyTuple_New(1);
    if (args == NULL) {
        return NULL;
    }
    PyTuple_SET_ITEM(args, 0, Py_NewRef(argument));
    if (number_of_spare_handles > 0) {
        self = spare_handles[--number_of_spare_handles];
        PyObject_Init(self, our_handle_type);
        PyObject_GC_Track(self);
    } else {
        self = our_handle_type->tp_alloc(our_handle_type, 0);
    }
    if (self == NULL) {
        Py_DECREF(args);
        return NULL;
    }
    slot(self, args) = args;
    slot(self, callback) = Py_NewRef(callback);
    slot(self, cancelled) = Py_NewRef(Py_True);
    slot(self, context) = Py_NewRef(context);
    slot(self, loop) = Py_NewRef(loop);
    slot(self, repr) = Py_NewRef(Py_None);
    slot(self, source_traceback) = Py_NewRef(Py_None);
    return self;
}

static void handle_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (*(PyObject **)((char *)self + type->tp_weaklistoffset) != NULL) {
        PyObject_ClearWeakRefs(self);
    }
    for (int i = 0; i < NUMBER_OF_SLOTS; i++) {
        Py_CLEAR(numbered_slot(self, i));
    }
    if (number_of_spare_handles < MOST_SPARE_HANDLES) {
        spare_handles[number_of_spare_handles++] = self;
    } else {
        PyObject_GC_Del(self);
    }
    Py_DECREF(type);
}

/* No tp_clear: a cycle through a handle also goes through the loop and its deque. */
static int handle_traverse(PyObject *self, visitproc visit, void *arg)
{
    for (int i = 0; i < NUMBER_OF_SLOTS; i++) {
        Py_VISIT(numbered_slot(self, i));
    }
    Py_VISIT(Py_TYPE(self));
    return 0;
}

/* Pass the current exception to the loop's exception handler, which also finds it in sys.exception().
   SystemExit and KeyboardInterrupt propagate. */
static PyObject *report_error(PyObject *handle)
{
    if (PyErr_ExceptionMatches(PyExc_SystemExit) || PyErr_ExceptionMatches(PyExc_KeyboardInterrupt)) {
        return NULL;
    }
    PyObject *type, *error, *traceback, *handled = PyErr_GetHandledException();
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    if (traceback != NULL) {
        PyException_SetTraceback(error, traceback);
    }
    PyErr_SetHandledException(error);
    PyObject *result = PyObject_CallFunctionObjArgs(report, handle, error, NULL);
    PyErr_SetHandledException(handled);
    Py_XDECREF(handled);
    Py_DECREF(type);
    Py_DECREF(error);
    Py_XDECREF(traceback);
    return result;
}

/* Handle._run(), if that is what it was when the handle was created, and nobody has changed the
   handle's attributes; else a call of it. */
static PyObject *handle_run(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *callback, *args, *context, *result = NULL;
    int unchanged;
    BEGIN_SECTION(self);
    callback = slot(self, callback);
    args = slot(self, args);
    context = slot(self, context);
    unchanged = tag_of(handle_type) == last.handle_tag && callback != NULL && args != NULL
                && PyTuple_CheckExact(args) && context != NULL && PyContext_CheckExact(context);
    if (unchanged) {
        Py_INCREF(callback); /* cancel() may drop them */
        Py_INCREF(args);
        Py_INCREF(context);
    }
    END_SECTION();
    if (!unchanged) {
        return PyObject_CallMethodOneArg((PyObject *)handle_type, names.run, self);
    }
    if (PyContext_Enter(context) == 0) {
        result = PyTuple_GET_SIZE(args) == 1
                     ? PyObject_CallOneArg(callback, PyTuple_GET_ITEM(args, 0))
                     : PyObject_CallObject(callback, args);
        if (PyContext_Exit(context) < 0) {
            Py_CLEAR(result);
        }
    }
    if (result == NULL) {
        result = report_error(self);
    }
    Py_DECREF(callback);
    Py_DECREF(args);
    Py_DECREF(context);
    if (result == NULL) {
        return NULL;
    }
    Py_DECREF(result);
    Py_RETURN_NONE;
}

static PyMethodDef handle_methods[] = {
    {"_run", handle_run, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot handle_slots[] = {
    {Py_tp_dealloc, handle_dealloc},
    {Py_tp_traverse, handle_traverse},
    {Py_tp_methods, handle_methods},
    {0, NULL},
};

/* Leaves handle_type NULL, and no exception, if asyncio.Handle is not the class that it should be. */
static int learn_handle(PyObject *handle)
{
    PyTypeObject *type = (PyTypeObject *)handle;
    if (!Py_IS_TYPE(handle, &PyType_Type) || type->tp_base != &PyBaseObject_Type
        || type->tp_dictoffset != 0 || type->tp_weaklistoffset == 0) {
        return 0;
    }
    for (int i = 0; i < NUMBER_OF_SLOTS; i++) {
        PyObject *descriptor = PyDict_GetItemString(type->tp_dict, slots[i].name);
        if (descriptor == NULL || !Py_IS_TYPE(descriptor, &PyMemberDescr_Type)) {
            return 0;
        }
        *slots[i].offset = ((PyMemberDescrObject *)descriptor)->d_member->offset;
    }
    PyType_Spec spec = {
        .name = "aiofastlock._compiled._lock.Handle",
        .basicsize = (int)type->tp_basicsize,
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
        .slots = handle_slots,
    };
    our_handle_type = (PyTypeObject *)PyType_FromSpecWithBases(&spec, handle);
    if (our_handle_type == NULL) {
        return -1; /* pragma: no cover - no memory at import */
    }
#ifdef Py_GIL_DISABLED
    Py_SET_REFCNT((PyObject *)our_handle_type, PY_SSIZE_T_MAX); /* as methods */
#endif
    handle_type = (PyTypeObject *)Py_NewRef(handle);
    return 0;
}

static PyObject *append_handle(PyObject *ready, PyObject *loop, PyObject *callback,
                               PyObject *argument, PyObject *context)
{
    PyObject *handle = new_handle(loop, callback, argument, context);
    if (handle != NULL) {
        PyObject *args[] = {ready, handle};
        PyObject *none = PyObject_Vectorcall(deque_append, args, 2, NULL);
        if (none == NULL) {
            Py_CLEAR(handle);
        } else {
            Py_DECREF(none);
        }
    }
    return handle;
}

static inline void let_run(PyObject *handle)
{
    PyObject *cancelled;
    BEGIN_SECTION(handle);
    cancelled = slot(handle, cancelled);
    store_pointer(&slot(handle, cancelled), Py_NewRef(Py_False));
    END_SECTION();
    Py_DECREF(cancelled);
}

/* loop.call_soon(callback, argument) */
static inline int call_soon(PyObject *loop, PyObject *callback, PyObject *argument)
{
    PyObject *ready = ready_handles(loop), *done = NULL;
    if (ready != NULL && Py_IS_TYPE(ready, deque_type)) {
        PyObject *context = PyContext_CopyCurrent();
        if (context != NULL) {
            done = append_handle(ready, loop, callback, argument, context);
            Py_DECREF(context);
            if (done != NULL) {
                let_run(done);
            }
        }
    } else if (ready != NULL) {
        done = PyObject_CallMethodObjArgs(loop, names.call_soon, callback, argument, NULL);
    }
    Py_XDECREF(ready);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* The one (callback, context) of a future; None if it has none or several, or if the context is not a
   contextvars.Context. */
static PyObject *only_callback(PyObject *future)
{
    PyObject *list = callbacks->get(future, callbacks->closure);
    if (list == NULL) {
        return NULL;
    }
    PyObject *only = Py_None;
    if (PyList_CheckExact(list) && PyList_GET_SIZE(list) == 1
        && PyContext_CheckExact(PyTuple_GET_ITEM(PyList_GET_ITEM(list, 0), 1))) {
        only = PyList_GET_ITEM(list, 0);
    }
    Py_INCREF(only);
    Py_DECREF(list);
    return only;
}

/* Set an asyncio future through a handle: returns as set_pending(), or 2 if that is not possible. */
static int set_through_handle(PyObject *future, PyObject *result)
{
    PyObject *ready = NULL, *only = NULL, *number = NULL, *handle = NULL;
    int outcome = -1;
    PyObject *loop = loop_of->get(future, loop_of->closure);
    if (loop == NULL || (ready = ready_handles(loop)) == NULL) {
        goto done;
    }
    if (!Py_IS_TYPE(ready, deque_type) || (only = only_callback(future)) == Py_None) {
        outcome = 2;
        goto done;
    }
    if (only == NULL) {
        goto done;
    }
    handle = append_handle(ready, loop, PyTuple_GET_ITEM(only, 0), future,
                           PyTuple_GET_ITEM(only, 1));
    if (handle == NULL) {
        goto done;
    }
    /* Until here the garbage collector, and so any code, may have run. From here on none does while
       the future is pending: it still has its callback and is set now; or others have set it or
       removed its callback, and the handle stays cancelled. */
    PyObject *arguments[2] = {future, PyTuple_GET_ITEM(only, 0)};
    number = PyObject_Vectorcall(remove_done_callback_method, arguments, 2, NULL);
    if (number == NULL) {
        goto done; /* pragma: no cover - from 3.12 on, identity finds the callback */
    }
    outcome = set_pending(future, result);
    if (outcome == 1 && PyObject_IsTrue(number)) {
        let_run(handle);
    }
done:
    Py_XDECREF(loop);
    Py_XDECREF(ready);
    Py_XDECREF(only);
    Py_XDECREF(handle);
    Py_XDECREF(number);
    return outcome;
}

#define RESULT_SET 1
#define raise_if_failed(outcome) (outcome) /* to Cython, -1 means that it raised */

/* future.set_result(result): as set_pending(). */
static inline int set_result(PyObject *future, PyObject *result)
{
    int outcome = Py_IS_TYPE(future, future_type) ? set_through_handle(future, result) : 2;
    return outcome == 2 ? set_pending(future, result) : outcome;
}

/* ---- At import ---- */

static PyGetSetDef *getset(PyTypeObject *type, const char *name)
{
    PyObject *descriptor = PyDict_GetItemString(type->tp_dict, name);
    if (descriptor == NULL || !Py_IS_TYPE(descriptor, &PyGetSetDescr_Type)) {
        return NULL;
    }
    return ((PyGetSetDescrObject *)descriptor)->d_getset;
}

static int learn_names(void)
{
    const struct {
        PyObject **name;
        const char *text;
    } all[] = {
        {&names.Future, "Future"},
        {&names.Handle, "Handle"},
        {&names.base_events, "base_events"},
        {&names.blocking, "_asyncio_future_blocking"},
        {&names.call_soon, "call_soon"},
        {&names.check_closed, "_check_closed"},
        {&names.closed, "_closed"},
        {&names.create_future, "create_future"},
        {&names.debug, "_debug"},
        {&names.events, "events"},
        {&names.futures, "futures"},
        {&names.get_debug, "get_debug"},
        {&names.get_running_loop, "_get_running_loop"},
        {&names.loop, "loop"},
        {&names.ready, "_ready"},
        {&names.run, "_run"},
        {&names.schedule, "_call_soon"},
        {&names.set_result, "set_result"},
        {&names.thread_id, "_thread_id"},
    };
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        *all[i].name = PyUnicode_InternFromString(all[i].text);
        if (*all[i].name == NULL) {
            return -1; /* pragma: no cover - no memory at import */
        }
    }
    return 0;
}

/* A module that `internals` has, and its namespace. */
static PyObject *module_of(PyObject *internals, PyObject *name, PyObject **namespace)
{
    PyObject *module = PyObject_GetAttr(internals, name);
    *namespace = module == NULL ? NULL : Py_XNewRef(PyModule_GetDict(module));
    return module;
}

static int learn_asyncio(PyObject *internals, PyObject *future, PyObject *deque, PyObject *error)
{
    PyObject *base_events, *handle;
    if (learn_names() < 0) {
        return -1; /* pragma: no cover - no memory at import */
    }
    base_events = module_of(internals, names.base_events, &modules.of_base_events);
    modules.events = module_of(internals, names.events, &modules.of_events);
    modules.futures = module_of(internals, names.futures, &modules.of_futures);
    Py_XDECREF(base_events); /* its namespace is enough */
    judge = PyObject_GetAttrString(internals, "functions_of");
    report = PyObject_GetAttrString(internals, "report");
    invalid_state_error = Py_NewRef(error);
    deque_type = (PyTypeObject *)Py_NewRef(deque);
    deque_append = PyObject_GetAttrString(deque, "append");
    no_arguments = PyTuple_New(0);
    if (PyErr_Occurred()) {
        return -1; /* pragma: no cover - no memory at import */
    }
    handle = own_attribute(modules.of_events, names.Handle);
    if (handle != NULL && learn_handle(handle) < 0) {
        return -1; /* pragma: no cover - no memory at import */
    }
    if (!PyType_Check(future)) {
        return 0;
    }
    set_result_method = PyObject_GetAttr(future, names.set_result);
    remove_done_callback_method = PyObject_GetAttrString(future, "remove_done_callback");
    blocking = getset((PyTypeObject *)future, "_asyncio_future_blocking");
    callbacks = getset((PyTypeObject *)future, "_callbacks");
    loop_of = getset((PyTypeObject *)future, "_loop");
    if (blocking != NULL && callbacks != NULL && loop_of != NULL) {
        future_type = (PyTypeObject *)Py_NewRef(future);
    }
    return PyErr_Occurred() ? -1 : 0;
}

#endif
