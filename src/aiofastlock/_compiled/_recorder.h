/* The table of what is held, for _recorder.pyx. */
#ifndef AIOFASTLOCK_RECORDER_H
#define AIOFASTLOCK_RECORDER_H

#include <Python.h>

#include <stdint.h>
#include <string.h>
#include <time.h>

#include "_guard.h"

#ifndef Py_GIL_DISABLED
/* Not if it is being deallocated. */
static inline int try_incref(PyObject *object)
{
    if (Py_REFCNT(object) == 0) {
        return 0;
    }
    Py_INCREF(object);
    return 1;
}
#define enable_try_incref(object) ((void)0)
#endif

/* ---- The clock ----

   Milliseconds since the first look at it. A coarse clock takes a tenth of the time of a precise one. */

#ifdef _WIN32
#include <windows.h>
static inline uint64_t clock_now(void)
{
    return GetTickCount64();
}
#else
#ifdef CLOCK_MONOTONIC_COARSE
#define RECORDER_CLOCK CLOCK_MONOTONIC_COARSE
#else
#define RECORDER_CLOCK CLOCK_MONOTONIC
#endif
static inline uint64_t clock_now(void)
{
    struct timespec now;
    clock_gettime(RECORDER_CLOCK, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}
#endif

static uint64_t clock_began = 0;

/* Never 0, which means: not recorded. It wraps around after 49 days; differences stay right. */
static inline uint32_t milliseconds(void)
{
    return (uint32_t)(clock_now() - clock_began) | 1;
}

/* ---- Records ---- */

/* What was counted of the primitives that were made at one place, or of a single one. Milliseconds. */
typedef struct {
    PyObject *place; /* a tuple, or NULL */
    int kind;
    uint32_t longest_wait, longest_hold;
    uint64_t made, acquired, waited, total_wait, total_hold;
} Counters;

enum { HELD = 1, STRUCTURED = 2, RELEASED_BY_OTHERS = 4, OWN_COUNTERS = 8 };

typedef struct {
    PyObject *holder; /* a weak reference to the task, or NULL outside of one */
    uint32_t since;
    uint32_t flags;   /* HELD, STRUCTURED; those of the first one have the record's too */
} Hold;

/* What a semaphore has more than a lock. */
typedef struct {
    size_t count, allocated;
    Hold holds[]; /* but for the first, in order */
} Holds;

typedef struct {
    PyObject *primitive; /* borrowed: it is forgotten when it is deallocated */
    Counters *counters;
    Hold first;
    Holds *more;
} Record;

/* A dense array of records, and a hash table of indices into it, by the primitive's address. */
static struct {
    Record *records;
    size_t count, allocated;
    uint32_t *slots; /* index + 1, or 0 */
    size_t mask;
    int open; /* records may be added */
} table;

static inline size_t hash_of(const void *primitive)
{
    uint64_t bits = (uint64_t)(uintptr_t)primitive >> 4;
    return (size_t)(bits * UINT64_C(0x9E3779B97F4A7C15) >> 20);
}

static inline Record *find_record(PyObject *primitive)
{
    if (table.count == 0) {
        return NULL;
    }
    for (size_t slot = hash_of(primitive);; slot++) {
        uint32_t index = table.slots[slot & table.mask];
        if (index == 0) {
            return NULL;
        }
        if (table.records[index - 1].primitive == primitive) {
            return &table.records[index - 1];
        }
    }
}

static void insert_slot(size_t index)
{
    size_t slot = hash_of(table.records[index].primitive);
    while (table.slots[slot & table.mask] != 0) {
        slot++;
    }
    table.slots[slot & table.mask] = (uint32_t)index + 1;
}

static int grow_table(void)
{
    if (table.count == table.allocated) {
        size_t allocated = table.allocated + table.allocated / 8 + 16;
        Record *records = PyMem_RawRealloc(table.records, allocated * sizeof(Record));
        if (records == NULL) {
            return -1;
        }
        table.records = records;
        table.allocated = allocated;
    }
    if (table.slots == NULL || (table.count + 1) * 3 > (table.mask + 1) * 2) {
        size_t size = table.slots == NULL ? 64 : (table.mask + 1) * 2;
        uint32_t *slots = PyMem_RawCalloc(size, sizeof(uint32_t));
        if (slots == NULL) {
            return -1;
        }
        PyMem_RawFree(table.slots);
        table.slots = slots;
        table.mask = size - 1;
        for (size_t i = 0; i < table.count; i++) {
            insert_slot(i);
        }
    }
    return 0;
}

/* NULL, without an exception, if there is no memory. */
static Record *add_record(PyObject *primitive)
{
    if (grow_table() < 0) {
        return NULL;
    }
    Record *record = &table.records[table.count];
    memset(record, 0, sizeof(Record));
    record->primitive = primitive;
    insert_slot(table.count++);
    return record;
}

/* Remove a record from the table, and return what it owned in *removed. */
static int take_record(PyObject *primitive, Record *removed)
{
    Record *record = find_record(primitive);
    if (record == NULL) {
        return 0;
    }
    size_t index = record - table.records, last = table.count - 1;
    *removed = *record;
    size_t slot = hash_of(primitive);
    while (table.slots[slot & table.mask] != index + 1) {
        slot++;
    }
    /* Close the gap: move back what would not be found behind an empty slot. */
    for (size_t next = slot + 1;; next++) {
        uint32_t moved = table.slots[next & table.mask];
        if (moved == 0) {
            break;
        }
        size_t home = hash_of(table.records[moved - 1].primitive);
        if (((next - home) & table.mask) >= ((next - slot) & table.mask)) {
            table.slots[slot & table.mask] = moved;
            slot = next;
        }
    }
    table.slots[slot & table.mask] = 0;
    if (index != last) {
        slot = hash_of(table.records[last].primitive);
        while (table.slots[slot & table.mask] != last + 1) {
            slot++;
        }
        table.slots[slot & table.mask] = (uint32_t)index + 1;
        table.records[index] = table.records[last];
    }
    table.count--;
    if (table.allocated > 64 && table.count < table.allocated / 4) {
        Record *records = PyMem_RawRealloc(table.records, table.allocated / 2 * sizeof(Record));
        if (records != NULL) {
            table.records = records;
            table.allocated /= 2;
        }
    }
    return 1;
}

/* ---- The lock of the table ----

   It is held for some table operations at a time, in which no code of Python runs. */

#ifdef Py_GIL_DISABLED
static PyMutex mutex;
#define BEGIN_TABLE() PyMutex_Lock(&mutex)
#define END_TABLE() PyMutex_Unlock(&mutex)
#else
#define BEGIN_TABLE() ((void)0)
#define END_TABLE() ((void)0)
#endif

/* ---- Tasks ---- */

static PyObject *current_task = NULL; /* asyncio.current_task */

/* A new reference to the running task, or NULL. */
static inline PyObject *running_task(void)
{
    PyObject *none[1] = {NULL}; /* arguments: without an array, CPython's takes twice as long */
    PyObject *task = PyObject_Vectorcall(current_task, none, 0, NULL);
    if (task == NULL) { /* no event loop is running */
        PyErr_Clear();
    } else if (Py_IsNone(task)) {
        Py_CLEAR(task);
    }
    return task;
}

/* A weak reference to the running task, or NULL. A task has one, which all holds share: so two are
   of the same task exactly if they are the same object. */
static PyObject *running_holder(void)
{
    PyObject *task = running_task();
    if (task == NULL) {
        return NULL;
    }
    PyObject *holder;
#ifdef Py_GIL_DISABLED
    holder = PyWeakref_NewRef(task, NULL);
#else
    static PyObject *last = NULL;
    if (last != NULL && ((PyWeakReference *)last)->wr_object == task) {
        holder = Py_NewRef(last);
    } else {
        holder = PyWeakref_NewRef(task, NULL);
        if (holder != NULL) {
            Py_XSETREF(last, Py_NewRef(holder));
        }
    }
#endif
    if (holder == NULL) {
        PyErr_Clear();
    }
    Py_DECREF(task);
    return holder;
}

static PyObject *task_of(PyObject *holder)
{
    PyObject *task = NULL;
#if PY_VERSION_HEX >= 0x030D0000
    (void)PyWeakref_GetRef(holder, &task); /* it fails for what is no weak reference */
#else
    task = PyWeakref_GET_OBJECT(holder);
    task = Py_IsNone(task) ? NULL : Py_NewRef(task);
#endif
    return task;
}

/* ---- What is recorded ---- */

/* A record has room for one hold; a semaphore's gets more. Return whether there was memory. */
static int add_hold(Record *record, Hold hold)
{
    if (!(record->first.flags & HELD)) {
        hold.flags |= record->first.flags;
        record->first = hold;
        return 1;
    }
    Holds *more = record->more;
    if (more == NULL || more->count == more->allocated) {
        size_t allocated = more == NULL ? 4 : more->allocated * 2;
        Holds *grown = PyMem_RawRealloc(more, sizeof(Holds) + allocated * sizeof(Hold));
        if (grown == NULL) {
            return 0;
        }
        if (more == NULL) {
            grown->count = 0;
        }
        grown->allocated = allocated;
        record->more = more = grown;
    }
    more->holds[more->count++] = hold;
    return 1;
}

/* Return whether there is a record of the primitive. */
static int record_acquired(PyObject *primitive, int is_lock, int structured)
{
    PyObject *holder = running_holder(), *dropped = NULL;
    Hold hold = {holder, milliseconds(), HELD | (structured ? STRUCTURED : 0)};
    BEGIN_TABLE();
    Record *record = find_record(primitive);
    if (record == NULL) {
        dropped = holder;
    } else {
        record->counters->acquired++;
        if (is_lock && record->first.flags & HELD) { /* it was unlocked unseen */
            dropped = record->first.holder;
            record->first.flags &= ~(HELD | STRUCTURED);
        }
        if (!add_hold(record, hold)) {
            dropped = holder;
        }
    }
    END_TABLE();
    Py_XDECREF(dropped);
    return record != NULL;
}

static inline void count_hold(Record *record, uint32_t since)
{
    uint32_t held = milliseconds() - since;
    Counters *counters = record->counters;
    counters->total_hold += held;
    if (held > counters->longest_hold) {
        counters->longest_hold = held;
    }
}

static PyObject *remove_hold(Record *record, size_t index)
{
    Holds *more = record->more;
    PyObject *holder = more->holds[index].holder;
    count_hold(record, more->holds[index].since);
    memmove(&more->holds[index], &more->holds[index + 1], (--more->count - index) * sizeof(Hold));
    return holder;
}

static PyObject *remove_first_hold(Record *record)
{
    PyObject *holder = record->first.holder;
    Holds *more = record->more;
    count_hold(record, record->first.since);
    record->first.flags &= ~(HELD | STRUCTURED);
    record->first.holder = NULL;
    if (more != NULL && more->count > 0) {
        uint32_t flags = record->first.flags;
        record->first = more->holds[0];
        record->first.flags |= flags;
        memmove(&more->holds[0], &more->holds[1], --more->count * sizeof(Hold));
    }
    return holder;
}

/* A task's own hold ends; if it has none, the oldest does. Return whether the task may not have held it:
   unless `async with` ends, which releases what it acquired. */
static int record_released(PyObject *primitive, int is_lock, int exits)
{
    PyObject *holder = NULL, *ended = NULL;
    int own = 0, by_others = 0;
    BEGIN_TABLE();
    Record *record = find_record(primitive);
    if (record == NULL) {
        END_TABLE();
        return 0;
    }
    own = is_lock && exits && record->first.flags & STRUCTURED;
    if (!own) {
        END_TABLE();
        holder = running_holder();
        BEGIN_TABLE();
        record = find_record(primitive); /* that may have run code */
    }
    Holds *more = record->more;
    size_t number = more == NULL ? 0 : more->count, i = 0;
    if (!(record->first.flags & HELD)) { /* it was acquired before the recording, or by nobody */
        by_others = record->counters->place != NULL;
    } else if (own || (holder != NULL && record->first.holder == holder)) {
        ended = remove_first_hold(record);
    } else {
        while (i < number && (holder == NULL || more->holds[i].holder != holder)) {
            i++;
        }
        by_others = i == number;
        ended = by_others ? remove_first_hold(record) : remove_hold(record, i);
    }
    END_TABLE();
    Py_XDECREF(holder);
    Py_XDECREF(ended);
    return by_others;
}

static void record_others(PyObject *primitive)
{
    BEGIN_TABLE();
    Record *record = find_record(primitive);
    if (record != NULL) {
        record->first.flags |= RELEASED_BY_OTHERS;
    }
    END_TABLE();
}

/* A wait has ended. A primitive of which the place is not known is counted alone from then on.
   Return whether there is a record of it. */
static int record_waited(PyObject *primitive, uint32_t since)
{
    BEGIN_TABLE();
    Record *record = find_record(primitive);
    if (record != NULL && record->counters->place == NULL && !(record->first.flags & OWN_COUNTERS)) {
        Counters *own = PyMem_RawCalloc(1, sizeof(Counters));
        if (own != NULL) {
            record->counters->made--;
            own->kind = record->counters->kind;
            own->made = 1;
            record->counters = own;
            record->first.flags |= OWN_COUNTERS;
        }
    }
    if (record != NULL) {
        Counters *counters = record->counters;
        uint32_t waited = milliseconds() - since;
        counters->waited++;
        counters->total_wait += waited;
        if (waited > counters->longest_wait) {
            counters->longest_wait = waited;
        }
    }
    END_TABLE();
    return record != NULL;
}

static void record_made(PyObject *primitive, Counters *counters)
{
    enable_try_incref(primitive);
    BEGIN_TABLE();
    Record *record = find_record(primitive);
    if (record == NULL && table.open && (record = add_record(primitive)) != NULL) {
        record->counters = counters;
        counters->made++;
    }
    END_TABLE();
}

/* The primitive is deallocated. */
static void forget(PyObject *primitive)
{
    Record removed;
    BEGIN_TABLE();
    int found = take_record(primitive, &removed);
    END_TABLE();
    if (!found) {
        return;
    }
    Py_XDECREF(removed.first.holder);
    for (size_t i = 0; removed.more != NULL && i < removed.more->count; i++) {
        Py_XDECREF(removed.more->holds[i].holder);
    }
    PyMem_RawFree(removed.more);
    if (removed.first.flags & OWN_COUNTERS) {
        PyMem_RawFree(removed.counters);
    }
}

static void open_table(void)
{
    BEGIN_TABLE();
    table.open = 1;
    END_TABLE();
}

/* Forget all, and refuse new records, which other threads may be about to add. */
static void close_table(void)
{
    PyObject *last;
    do {
        BEGIN_TABLE();
        table.open = 0;
        last = table.count > 0 ? table.records[table.count - 1].primitive : NULL;
        if (last == NULL) {
            PyMem_RawFree(table.records);
            PyMem_RawFree(table.slots);
            memset(&table, 0, sizeof(table));
        }
        END_TABLE();
        if (last != NULL) {
            forget(last);
        }
    } while (last != NULL);
}

/* ---- What was recorded ----

   It is copied first: to make an object of Python can run code, which may change the table. */

typedef struct {
    Counters counters;
    uint32_t flags;
    size_t count;
    Hold holds[]; /* with references to the holders */
} Copy;

/* NULL, without an exception, if nothing is recorded or there is no memory. */
static Copy *copy_record(PyObject *primitive)
{
    Copy *copy = NULL;
    BEGIN_TABLE();
    Record *record = find_record(primitive);
    if (record != NULL) {
        size_t more = record->more == NULL ? 0 : record->more->count;
        copy = PyMem_RawMalloc(sizeof(Copy) + (1 + more) * sizeof(Hold));
    }
    if (copy != NULL) {
        copy->counters = *record->counters;
        copy->flags = record->first.flags;
        copy->count = 0;
        if (record->first.flags & HELD) {
            copy->holds[copy->count++] = record->first;
        }
        for (size_t i = 0; record->more != NULL && i < record->more->count; i++) {
            copy->holds[copy->count++] = record->more->holds[i];
        }
        for (size_t i = 0; i < copy->count; i++) {
            Py_XINCREF(copy->holds[i].holder);
        }
    }
    END_TABLE();
    return copy;
}

static void free_copy(Copy *copy)
{
    for (size_t i = 0; copy != NULL && i < copy->count; i++) {
        Py_XDECREF(copy->holds[i].holder);
    }
    PyMem_RawFree(copy);
}

/* A list of the primitives of which there are records. */
static PyObject *recorded_primitives(void)
{
    PyObject *list = NULL;
    size_t size, found = 0;
    int enough = 0;
    while (!enough) {
        BEGIN_TABLE();
        size = table.count;
        END_TABLE();
        Py_XDECREF(list);
        list = PyList_New(size); /* can run code that makes more */
        if (list == NULL) {
            return NULL;
        }
        BEGIN_TABLE();
        enough = table.count <= size;
        for (size_t i = 0; enough && i < table.count; i++) {
            if (try_incref(table.records[i].primitive)) {
                PyList_SET_ITEM(list, found++, table.records[i].primitive);
            }
        }
        END_TABLE();
    }
    Py_SET_SIZE(list, found);
    return list;
}

static int is_held(PyObject *primitive)
{
    BEGIN_TABLE();
    Record *record = find_record(primitive);
    int held = record != NULL && record->first.flags & HELD;
    END_TABLE();
    return held;
}

#endif
