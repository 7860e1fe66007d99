/* Noting words: the lowest layer of the recorder of stamps (guard_record.c), which says when each may be noted.
 *
 * Invariant: a word is noted once, with the node to blame when it differs.
 */
#include "guard_record.h"

/* Arrays */

bool
lw_grow(void **items, int *capacity, size_t size)
{
    int wanted = *capacity > 0 ? 2 * *capacity : 16;
    void *larger = PyMem_Realloc(*items, (size_t)wanted * size);
    if (larger == NULL) {
        return false;
    }
    *items = larger;
    *capacity = wanted;
    return true;
}

bool
lw_see(lw_recorder *recorder, const void *address)
{
    if (2 * recorder->n_seen >= recorder->size) {
        size_t size = recorder->size > 0 ? 2 * recorder->size : 1024;
        const void **seen = PyMem_Calloc(size, sizeof(void *));
        if (seen == NULL) {
            recorder->failed = true;
            return false;
        }
        for (size_t i = 0; i < recorder->size; i++) {
            if (recorder->seen[i] != NULL) {
                size_t j = ((uintptr_t)recorder->seen[i] >> 3) * 0x9E3779B97F4A7C15u & (size - 1);
                while (seen[j] != NULL) {
                    j = (j + 1) & (size - 1);
                }
                seen[j] = recorder->seen[i];
            }
        }
        PyMem_Free(recorder->seen);
        recorder->seen = seen;
        recorder->size = size;
    }
    size_t i = ((uintptr_t)address >> 3) * 0x9E3779B97F4A7C15u & (recorder->size - 1);
    while (recorder->seen[i] != NULL) {
        if (recorder->seen[i] == address) {
            return false;
        }
        i = (i + 1) & (recorder->size - 1);
    }
    recorder->seen[i] = address;
    recorder->n_seen++;
    return true;
}

int
lw_number_of(lw_recorder *recorder, const lw_node *node)
{
    return (int)(node - recorder->tree->nodes);
}

/* Noting */

void
lw_note_word(lw_recorder *recorder, const lw_node *node, enum lw_blame blame, const void *word)
{
    if (!lw_see(recorder, word)) {
        return;
    }
    lw_stamp stamp = {word, lw_load_word(word)};
    PUSH(recorder, stamps, stamp);
    PUSH(recorder, blames, 2 * lw_number_of(recorder, node) + (int)blame);
}

void
lw_note_reading(lw_recorder *recorder, const lw_node *child, PyObject *base, PyObject *value)
{
    lw_stamp stamp = {NULL, (uint64_t)recorder->set->readings.n};
    lw_reading reading = {lw_number_of(recorder, child), base, value};
    PUSH(recorder, readings, reading);
    PUSH(recorder, stamps, stamp);
    PUSH(recorder, blames, 2 * lw_number_of(recorder, child) + (int)LW_BLAME_VALUE);
}

void
lw_note_class(lw_recorder *recorder, const lw_node *node, PyObject *object)
{
    lw_note_word(recorder, node, LW_BLAME_VALUE, &object->ob_type);
}

/* Whether an object that is surely the same one may have another class by now. */
static bool
class_may_change(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    return PyType_HasFeature(type, Py_TPFLAGS_HEAPTYPE) || PyModule_Check(object);
}

void
lw_note_class_of(lw_recorder *recorder, const lw_node *node, lw_pinned pinned)
{
    if (!pinned.strong || class_may_change(pinned.value)) {
        lw_note_class(recorder, node, pinned.value);
    }
}

/* All that may be found in a class, and where. The class is pinned. */
bool
lw_note_version(lw_recorder *recorder, const lw_node *node, PyTypeObject *type)
{
    if (lw_type_version(type) == 0) {
        return false;
    }
    /* The word has padding behind the tag, which nobody writes. */
    lw_note_word(recorder, node, LW_BLAME_VALUE, &type->tp_flags);
    lw_note_word(recorder, node, LW_BLAME_VALUE, &type->tp_version_tag);
    return true;
}

bool
lw_note_dict(lw_recorder *recorder, const lw_node *node, PyObject *dict)
{
    const void *word = node->loose_dict ? NULL : lw_dict_settle(dict);
    if (word == NULL) {
        return false;
    }
    lw_note_word(recorder, node, LW_BLAME_DICT, word);
    return true;
}

bool
lw_note_look_up(lw_recorder *recorder, const lw_node *node, PyObject *dict, PyObject *key)
{
    return lw_look_up_is_plain(dict, key) && lw_note_dict(recorder, node, dict);
}

bool
lw_note_name(lw_recorder *recorder, const lw_node *node, PyObject *object, PyObject *name, PyObject **dict)
{
    PyObject **place = lw_dict_place(object);
    *dict = place != NULL ? *place : NULL;
    if (place == NULL) {
        return true; /* the class says so */
    }
    lw_note_word(recorder, node, LW_BLAME_DICT, place);
    return *dict == NULL || lw_note_look_up(recorder, node, *dict, name);
}

bool
lw_note_in_table(lw_recorder *recorder, const lw_node *node, PyObject *namespace, int i, PyObject *name)
{
    PyObject *table = lw_module_table(namespace, i);
    return lw_module_table_is_plain(namespace, i) && (table == NULL || lw_note_look_up(recorder, node, table, name));
}
