/* Probing dictionaries and sets: with which of the stored keys a look-up may compare, and in which order they stand.
 *
 * A look-up compares with a key only if its whole hash is the one looked for, so a few comparisons tell whether it may run
 * code of the user's, however large the table is. Here the tables are probed in the interpreter's order (3.10 to 3.13),
 * by hash alone. An OrderedDict has a list of its keys beside its table, and its iterator hashes each key once more to find
 * the next; the list itself needs none of that. Invariant: nothing is hashed or compared and nothing runs; every key of a
 * hash is visited up to the first that the visitor stops at.
 */
#include "guard.h"
#include <stddef.h>
#include <string.h>
#if PY_VERSION_HEX >= 0x030B0000
#ifndef Py_BUILD_CORE
#define Py_BUILD_CORE 1
#endif
#undef _PyGC_FINALIZED /* a macro of 3.12 that its own internal header does not expect */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
#include <internal/pycore_dict.h>
#pragma GCC diagnostic pop
#endif

#define PERTURB_BITS 5 /* that leave the hash at each step */
#define NEIGHBOURS 9   /* of a place in a set, which are looked at before the next step */

/* A table of a dictionary that has other keys than text: indices into its entries. */
typedef struct {
    const char *indices;
    size_t mask, width; /* of an index, in bytes */
    const struct entry {
        Py_hash_t hash;
        PyObject *key, *value;
    } *entries;
} table;

#if PY_VERSION_HEX >= 0x030B0000

static table
table_of(PyObject *dict)
{
    PyDictKeysObject *keys = ((PyDictObject *)dict)->ma_keys;
    _Static_assert(sizeof(struct entry) == sizeof(PyDictKeyEntry), "the entries of a dictionary");
    return (table){keys->dk_indices, ((size_t)1 << keys->dk_log2_size) - 1,
                   (size_t)1 << (keys->dk_log2_index_bytes - keys->dk_log2_size),
                   (const struct entry *)(keys->dk_indices + ((size_t)1 << keys->dk_log2_index_bytes))};
}

#else /* 3.10 shows the struct in no header */

static table
table_of(PyObject *dict)
{
    const struct {
        Py_ssize_t references, size;
        void *look_up;
        Py_ssize_t usable, n_entries;
        char indices[];
    } *keys = (const void *)((PyDictObject *)dict)->ma_keys;
    size_t size = (size_t)keys->size, width = size <= 0xff ? 1 : size <= 0xffff ? 2 : size <= 0xffffffff ? 4 : 8;
    return (table){keys->indices, size - 1, width, (const struct entry *)(keys->indices + width * size)};
}

#endif

/* -1: the place is empty and always was; -2: the entry was removed. */
static int64_t
index_at(const table *table, size_t place)
{
    const char *address = table->indices + place * table->width;
    switch (table->width) {
    case 1:
        return *(const int8_t *)address;
    case 2:
        return *(const int16_t *)address;
    case 4:
        return *(const int32_t *)address;
    default:
        return *(const int64_t *)address;
    }
}

void
lw_visit_dict(PyObject *dict, Py_hash_t hash, lw_visitor visit, void *context)
{
    const table table = table_of(dict);
    size_t perturb = (size_t)hash, place = (size_t)hash & table.mask;
    for (;;) {
        int64_t index = index_at(&table, place);
        if (index == -1) {
            return;
        }
        if (index >= 0 && table.entries[index].hash == hash && !visit(table.entries[index].key, context)) {
            return;
        }
        perturb >>= PERTURB_BITS;
        place = (place * 5 + perturb + 1) & table.mask;
    }
}

void
lw_visit_set(PyObject *set, Py_hash_t hash, lw_visitor visit, void *context)
{
    const setentry *entries = ((PySetObject *)set)->table;
    size_t mask = (size_t)((PySetObject *)set)->mask, perturb = (size_t)hash, place = (size_t)hash & mask;
    for (;;) {
        size_t last = place + NEIGHBOURS <= mask ? place + NEIGHBOURS : place;
        for (size_t i = place; i <= last; i++) {
            if (entries[i].key == NULL) {
                return;
            }
            if (entries[i].hash == hash && !visit(entries[i].key, context)) { /* of one that was removed: -1 */
                return;
            }
        }
        perturb >>= PERTURB_BITS;
        place = (place * 5 + 1 + perturb) & mask;
    }
}

/* An OrderedDict as all of these interpreters have it; they show it in no header. */
typedef struct ordered_node {
    PyObject *key; /* strong */
    Py_hash_t hash;
    struct ordered_node *next, *previous;
} ordered_node;

typedef struct {
    PyDictObject dict;
    ordered_node *first, *last;
    ordered_node **places;
    Py_ssize_t n_places;
    void *resized;
    size_t state;
    PyObject *namespace, *weak_references;
} ordered_dict;

PyObject *
lw_ordered_dict_keys(PyObject *object)
{
    const PyTypeObject *type = &PyODict_Type;
    if (type->tp_basicsize != sizeof(ordered_dict) || type->tp_dictoffset != offsetof(ordered_dict, namespace)
        || type->tp_weaklistoffset != offsetof(ordered_dict, weak_references)) {
        return NULL; /* built otherwise: nobody can tell */
    }
    Py_ssize_t n = PyDict_GET_SIZE(object), i = 0;
    PyObject *keys = PyTuple_New(n);
    if (keys == NULL) {
        return NULL;
    }
    const ordered_node *node = ((const ordered_dict *)object)->first;
    for (; node != NULL && i < n; node = node->next) {
        PyTuple_SET_ITEM(keys, i++, Py_NewRef(node->key));
    }
    if (node != NULL || i != n) { /* someone changed it as the dictionary that it is too */
        Py_CLEAR(keys);
    }
    return keys;
}
