/* asyncio's own loops and futures, without the Python code between them.

   What a wait and a wake-up need of a loop and a future is done here as asyncio's own methods do it,
   if those are the methods that would be called. Otherwise the methods are called. */
#ifndef AIOFASTLOCK_LOOP_H
#define AIOFASTLOCK_LOOP_H

#include <Python.h>
#include <structmember.h>

static struct { /* interned */
    PyObject *blocking, *call_soon, *closed, *create_future, *debug, *handle, *loop, *ready, *set_result;
} names;

/* ---- Loops ----

   `judge`, a Python function, tells whether the methods of a loop's class are asyncio's. It is called
   again when the class or asyncio.Handle has changed, and so has another version tag (or 0, until an
   attribute is looked up). The attributes of the loop itself are checked each time: whether they hide
   call_soon() or create_future(), and whether the loop is in debug mode or closed. */

static PyObject *judge = NULL;
static PyTypeObject *handle_type = NULL; /* asyncio.Handle */
static PyObject *handles_home = NULL;    /* the namespace in which loops look up Handle */

static struct { /* the class that was judged last */
    PyTypeObject *type;
    unsigned int tag;
    unsigned int handle_tag;
    int is_asyncios;
} last;

static int judge_loop(PyObject *loop)
{
    PyTypeObject *type = Py_TYPE(loop);
    /* Read first: a class that changes meanwhile is judged again next time. */
    unsigned int tag = type->tp_version_tag, handle_tag = handle_type->tp_version_tag;
    PyObject *verdict = PyObject_CallOneArg(judge, (PyObject *)type);
    if (verdict == NULL) {
        return -1;
    }
    last.type = type;
    last.tag = tag;
    last.handle_tag = handle_tag;
    last.is_asyncios = verdict == Py_True && tag != 0 && handle_tag != 0;
    Py_DECREF(verdict);
    return last.is_asyncios;
}

/* 1 or 0, or -1 with an exception. */
static inline int is_asyncios(PyObject *loop)
{
#ifdef Py_GIL_DISABLED /* `last` would be shared by threads with different loops */
    (void)loop;
    (void)judge_loop;
    return 0;
#else
    PyTypeObject *type = Py_TYPE(loop);
    if (type == last.type && type->tp_version_tag == last.tag
        && handle_type->tp_version_tag == last.handle_tag) {
        return last.is_asyncios;
    }
    return judge_loop(loop);
#endif
}

/* Borrowed; NULL, perhaps with an exception. */
#define own_attribute(attributes, name) PyDict_GetItemWithError(attributes, name)

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
    if (own_attribute(handles_home, names.handle) == (PyObject *)handle_type
        && own_attribute(attributes, names.call_soon) == NULL && !PyErr_Occurred()
        && own_attribute(attributes, names.debug) == Py_False
        && own_attribute(attributes, names.closed) == Py_False) {
        ready = own_attribute(attributes, names.ready);
    }
    if (ready == NULL && !PyErr_Occurred()) {
        ready = Py_None;
    }
    Py_XINCREF(ready);
    Py_DECREF(attributes);
    return ready;
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
        asyncios = own_attribute(attributes, names.create_future) == NULL;
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

typedef struct {
    PyObject_HEAD
    PyObject *callback;
    PyObject *argument; /* the future */
    PyObject *context;
    PyObject *cancelled;
} Handle;

static PyTypeObject our_handle_type;
static PyObject *report = NULL; /* calls the loop's exception handler, in Python */

#define MOST_SPARE_HANDLES 32
static Handle *spare_handles[MOST_SPARE_HANDLES];
static int number_of_spare_handles = 0;

/* A new handle is cancelled until let_run() is called. */
static Handle *new_handle(PyObject *callback, PyObject *argument, PyObject *context)
{
    Handle *self;
    if (number_of_spare_handles > 0) {
        self = spare_handles[--number_of_spare_handles];
        PyObject_Init((PyObject *)self, &our_handle_type);
    } else {
        self = PyObject_GC_New(Handle, &our_handle_type);
    }
    if (self != NULL) {
        self->callback = Py_NewRef(callback);
        self->argument = Py_NewRef(argument);
        self->context = Py_NewRef(context);
        self->cancelled = Py_NewRef(Py_True);
        PyObject_GC_Track(self);
    }
    return self;
}

static void handle_dealloc(PyObject *op)
{
    Handle *self = (Handle *)op;
    PyObject_GC_UnTrack(op);
    Py_DECREF(self->callback);
    Py_DECREF(self->argument);
    Py_DECREF(self->context);
    Py_DECREF(self->cancelled);
    if (number_of_spare_handles < MOST_SPARE_HANDLES) {
        spare_handles[number_of_spare_handles++] = self;
    } else {
        PyObject_GC_Del(self);
    }
}

/* No tp_clear: a cycle through a handle also goes through the loop and its deque. */
static int handle_traverse(PyObject *op, visitproc visit, void *arg)
{
    Handle *self = (Handle *)op;
    Py_VISIT(self->callback);
    Py_VISIT(self->argument);
    Py_VISIT(self->context);
    return 0;
}

/* context.run(callback, argument). An exception is passed to the loop's exception handler, which also
   finds it in sys.exception(). */
static PyObject *handle_run(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    Handle *self = (Handle *)op;
    PyObject *result = NULL;
    if (PyContext_Enter(self->context) == 0) {
        result = PyObject_CallOneArg(self->callback, self->argument);
        if (PyContext_Exit(self->context) < 0) {
            Py_CLEAR(result);
        }
    }
    if (result == NULL && !PyErr_ExceptionMatches(PyExc_SystemExit)
        && !PyErr_ExceptionMatches(PyExc_KeyboardInterrupt)) {
        PyObject *type, *error, *traceback, *handled = PyErr_GetHandledException();
        PyErr_Fetch(&type, &error, &traceback);
        PyErr_NormalizeException(&type, &error, &traceback);
        if (traceback != NULL) {
            PyException_SetTraceback(error, traceback);
        }
        PyErr_SetHandledException(error);
        result = PyObject_CallFunctionObjArgs(report, self->callback, self->argument, self->context,
                                              error, NULL);
        PyErr_SetHandledException(handled);
        Py_XDECREF(handled);
        Py_DECREF(type);
        Py_DECREF(error);
        Py_XDECREF(traceback);
    }
    if (result == NULL) {
        return NULL;
    }
    Py_DECREF(result);
    Py_RETURN_NONE;
}

static PyObject *handle_source_traceback(PyObject *Py_UNUSED(self), void *Py_UNUSED(closure))
{
    Py_RETURN_NONE;
}

/* What a loop uses, also if its debug mode is turned on before the handle runs. */
static PyMethodDef handle_methods[] = {
    {"_run", handle_run, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef handle_members[] = { /* read as fast as __slots__ */
    {"_cancelled", T_OBJECT_EX, offsetof(Handle, cancelled), READONLY, NULL},
    {"_callback", T_OBJECT_EX, offsetof(Handle, callback), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef handle_getsets[] = {
    {"_source_traceback", handle_source_traceback, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyTypeObject our_handle_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "aiofastlock._compiled._lock.Handle",
    .tp_basicsize = sizeof(Handle),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_dealloc = handle_dealloc,
    .tp_traverse = handle_traverse,
    .tp_methods = handle_methods,
    .tp_members = handle_members,
    .tp_getset = handle_getsets,
};

static Handle *append_handle(PyObject *ready, PyObject *callback, PyObject *argument,
                             PyObject *context)
{
    Handle *handle = new_handle(callback, argument, context);
    if (handle != NULL) {
        PyObject *args[] = {ready, (PyObject *)handle};
        PyObject *none = PyObject_Vectorcall(deque_append, args, 2, NULL);
        if (none == NULL) {
            Py_CLEAR(handle);
        } else {
            Py_DECREF(none);
        }
    }
    return handle;
}

static inline void let_run(Handle *handle)
{
    Py_SETREF(handle->cancelled, Py_NewRef(Py_False));
}

/* loop.call_soon(callback, argument) */
static inline int call_soon(PyObject *loop, PyObject *callback, PyObject *argument)
{
    PyObject *ready = ready_handles(loop), *done = NULL;
    if (ready != NULL && Py_IS_TYPE(ready, deque_type)) {
        PyObject *context = PyContext_CopyCurrent();
        if (context != NULL) {
            Handle *handle = append_handle(ready, callback, argument, context);
            Py_DECREF(context);
            if (handle != NULL) {
                let_run(handle);
                done = (PyObject *)handle;
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
    PyObject *ready = NULL, *only = NULL, *number = NULL;
    Handle *handle = NULL;
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
    handle = append_handle(ready, PyTuple_GET_ITEM(only, 0), future, PyTuple_GET_ITEM(only, 1));
    if (handle == NULL) {
        goto done;
    }
    /* Until here the garbage collector, and so any code, may have run. From here on none does while
       the future is pending: it still has its callback and is set now; or others have set it or
       removed its callback, and the handle stays cancelled. */
    PyObject *arguments[2] = {future, handle->callback};
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

static int learn_asyncio(PyObject *events, PyObject *handle, PyObject *future, PyObject *deque,
                         PyObject *error, PyObject *judge_of_loops, PyObject *reporter)
{
    names.blocking = PyUnicode_InternFromString("_asyncio_future_blocking");
    names.call_soon = PyUnicode_InternFromString("call_soon");
    names.closed = PyUnicode_InternFromString("_closed");
    names.create_future = PyUnicode_InternFromString("create_future");
    names.debug = PyUnicode_InternFromString("_debug");
    names.handle = PyUnicode_InternFromString("Handle");
    names.loop = PyUnicode_InternFromString("loop");
    names.ready = PyUnicode_InternFromString("_ready");
    names.set_result = PyUnicode_InternFromString("set_result");
    judge = Py_NewRef(judge_of_loops);
    report = Py_NewRef(reporter);
    handles_home = Py_NewRef(PyModule_GetDict(events));
    handle_type = (PyTypeObject *)Py_NewRef(handle);
    invalid_state_error = Py_NewRef(error);
    deque_type = (PyTypeObject *)Py_NewRef(deque);
    deque_append = PyObject_GetAttrString(deque, "append");
    no_arguments = PyTuple_New(0);
    set_result_method = PyObject_GetAttr(future, names.set_result);
    remove_done_callback_method = PyObject_GetAttrString(future, "remove_done_callback");
    blocking = getset((PyTypeObject *)future, "_asyncio_future_blocking");
    callbacks = getset((PyTypeObject *)future, "_callbacks");
    loop_of = getset((PyTypeObject *)future, "_loop");
    if (blocking != NULL && callbacks != NULL && loop_of != NULL) {
        future_type = (PyTypeObject *)Py_NewRef(future);
    }
    return PyErr_Occurred() ? -1 : PyType_Ready(&our_handle_type);
}

#endif
