/* The table of a KeyedLock or KeyedSemaphore. Included by _keyed.pyx alone. */
#ifndef AIOFASTLOCK_KEYED_H
#define AIOFASTLOCK_KEYED_H

#include <Python.h>

#include "_class.h"

/* A hash table with linear probing. It owns nothing: a primitive owns its key, and leaves the table before
   it is freed. It leaves by its own address and the hash that it knows, so no code of a key runs then.

   It is read and written in the critical section of its owner. In free-threaded builds, a primitive in it
   may be one whose deallocation, in another thread, waits for that section; with the GIL, one whose weak
   references' callbacks run. try_to_own() tells. */
typedef struct {
    Py_hash_t hash;
    PyObject *key;
    PyObject *primitive; /* NULL: the slot is free */
} Slot;

typedef struct {
    Slot *slots;
    size_t mask; /* the number of slots, a power of 2, less 1 */
    size_t used;
    unsigned int changes; /* tells who compares keys, which can run any code, to begin anew */
} Table;

#define FEWEST_SLOTS 8

static inline size_t home_of(const Table *table, Py_hash_t hash)
{
    /* Hashes of consecutive or aligned numbers are spread. */
    return (size_t)(((uint64_t)hash * 0x9E3779B97F4A7C15u) >> 32) & table->mask;
}

#ifdef Py_GIL_DISABLED
#define try_to_own(primitive) (try_incref(primitive) ? (primitive) : Py_NewRef(Py_None))
#define may_be_found(primitive) enable_try_incref((PyObject *)(primitive))
#else
#define try_to_own(primitive) Py_NewRef(Py_REFCNT(primitive) > 0 ? (primitive) : Py_None)
#define may_be_found(primitive) ((void)0)
#endif

/* Store the primitive of a key, borrowed, or NULL. Return -1 if a comparison raised. */
static int find_key(Table *table, PyObject *key, Py_hash_t hash, PyObject **found)
{
    *found = NULL;
again:
    if (table->used == 0) {
        return 0;
    }
    for (size_t i = home_of(table, hash); table->slots[i].primitive != NULL; i = (i + 1) & table->mask) {
        if (table->slots[i].hash != hash) {
            continue;
        }
        int equal = table->slots[i].key == key;
        if (!equal) {
            PyObject *other = Py_NewRef(table->slots[i].key);
            unsigned int changes = table->changes;
            equal = PyObject_RichCompareBool(other, key, Py_EQ);
            Py_DECREF(other);
            if (equal < 0) {
                return -1;
            }
            if (changes != table->changes) {
                goto again;
            }
        }
        if (equal) {
            *found = table->slots[i].primitive;
            return 0;
        }
    }
    return 0;
}

static void put_slot(Table *table, Slot slot)
{
    size_t i = home_of(table, slot.hash);
    while (table->slots[i].primitive != NULL) {
        i = (i + 1) & table->mask;
    }
    table->slots[i] = slot;
}

/* Return -1, without an exception, if there is no memory: the table stays as it was. */
static int resize_table(Table *table, size_t count)
{
    Slot *old = table->slots;
    size_t old_count = old == NULL ? 0 : table->mask + 1;
    Slot *slots = PyMem_Calloc(count, sizeof(Slot));
    if (slots == NULL) {
        return -1;
    }
    table->slots = slots;
    table->mask = count - 1;
    for (size_t i = 0; i < old_count; i++) {
        if (old[i].primitive != NULL) {
            put_slot(table, old[i]);
        }
    }
    PyMem_Free(old);
    return 0;
}

/* Runs no other code. */
static int add_key(Table *table, PyObject *primitive, PyObject *key, Py_hash_t hash)
{
    size_t count = table->slots == NULL ? 0 : table->mask + 1;
    if ((table->used + 1) * 3 > count * 2
        && resize_table(table, count == 0 ? FEWEST_SLOTS : count * 2) < 0) {
        PyErr_NoMemory();
        return -1;
    }
    put_slot(table, (Slot){hash, key, primitive});
    table->used++;
    table->changes++;
    return 0;
}

/* Remove a primitive, if it is there. Runs no other code. */
static void remove_key(Table *table, PyObject *primitive, Py_hash_t hash)
{
    if (table->used == 0) {
        return;
    }
    size_t hole = home_of(table, hash);
    while (table->slots[hole].primitive != primitive) {
        if (table->slots[hole].primitive == NULL) {
            return;
        }
        hole = (hole + 1) & table->mask;
    }
    /* Those behind it that it has kept from their home move up. */
    for (size_t i = (hole + 1) & table->mask; table->slots[i].primitive != NULL;
         i = (i + 1) & table->mask) {
        size_t distance = (i - home_of(table, table->slots[i].hash)) & table->mask;
        if (distance >= ((i - hole) & table->mask)) {
            table->slots[hole] = table->slots[i];
            hole = i;
        }
    }
    table->slots[hole].primitive = NULL;
    table->used--;
    table->changes++;
    if (table->mask >= FEWEST_SLOTS && table->used * 8 < table->mask) {
        resize_table(table, (table->mask + 1) / 2); /* if there is memory for it */
    }
}

/* For a primitive that is about to be deallocated. Its owner is None if it was never in a table, and NULL
   if its allocation failed half-way. */
#define leave_table(primitive) \
    do { \
        PyObject *owner_ = (PyObject *)(primitive)->owner; \
        if (owner_ != NULL && owner_ != Py_None) { \
            BEGIN_SECTION((primitive)->owner); \
            remove_key(&(primitive)->owner->table, (PyObject *)(primitive), (primitive)->hash); \
            END_SECTION(); \
        } \
    } while (0)

/* See that a primitive has a reference to itself exactly while it is held. Its owner reads `owns_itself`
   outside of the primitive's section. */
#define own_itself(primitive, held) \
    do { \
        int held_ = (held); \
        if (load_int(&(primitive)->owns_itself) != held_) { \
            store_int(&(primitive)->owns_itself, held_); \
            if (held_) { \
                Py_INCREF(primitive); \
            } else { \
                Py_DECREF(primitive); \
            } \
        } \
    } while (0)

/* What Cython cannot do for a class whose objects own what is in a table. */
static traverseproc traverse_fields = NULL;

static void set_gc(PyTypeObject *type, traverseproc traverse, inquiry clear)
{
    if (traverse_fields == NULL) {
        traverse_fields = type->tp_traverse;
    }
    type->tp_traverse = traverse;
    type->tp_clear = clear;
}

/* keep_or_dealloc(), for primitives that leave a table first. */
#ifndef Py_GIL_DISABLED

static void (*leave)(PyObject *) = NULL;

static void leave_and_keep_or_dealloc(PyObject *primitive)
{
    leave(primitive);
    keep_or_dealloc(primitive);
}

static void leave_before_dealloc(PyTypeObject *type, void (*function)(PyObject *))
{
    leave = function;
    type->tp_dealloc = leave_and_keep_or_dealloc;
}

#else
#define leave_before_dealloc(type, function) ((void)(function))
#endif

#endif
