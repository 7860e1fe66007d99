/* Recording stamps: after a guard tree has held, notes for each node which words of memory prove that it holds again.
 *
 * A node is pinned when the words noted so far prove that reading it gives the object at the same address. It is strong if
 * they prove that it is the same object: a dictionary or class with an unchanged version has held it all the time. A weak
 * one was compared with a pointer and may be a new object at an old address, so what is immutable of it is noted too.
 * Invariants: a word is noted only after those that prove its memory alive; whatever is not proven is walked in every call.
 */
#include "guard_record.h"
#include <stdlib.h>
#include <string.h>

/* Proving checks */

static bool
is_immutable_atom(PyObject *value)
{
    if (PyTuple_CheckExact(value)) {
        for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(value); i++) {
            if (!is_immutable_atom(PyTuple_GET_ITEM(value, i))) {
                return false;
            }
        }
        return true;
    }
    return PyLong_CheckExact(value) || PyFloat_CheckExact(value) || PyUnicode_CheckExact(value) || PyBytes_CheckExact(value)
           || PyComplex_CheckExact(value) || PyBool_Check(value) || value == Py_None;
}

static bool
prove_length(lw_recorder *recorder, const lw_node *node, lw_pinned value)
{
    PyObject *object = value.value;
    const void *word;
    if (PyDict_Check(object)) {
        word = &((PyDictObject *)object)->ma_used;
    }
    else if (PyList_Check(object) || PyTuple_Check(object)) {
        word = &((PyVarObject *)object)->ob_size;
    }
    else if (PyAnySet_Check(object)) {
        word = &((PySetObject *)object)->used;
    }
    else {
        return false;
    }
    lw_note_class_of(recorder, node, value);
    lw_note_word(recorder, node, LW_BLAME_VALUE, word);
    return true;
}

/* Whether `hasattr` gives the same answer again. */
static bool
prove_presence(lw_recorder *recorder, const lw_node *node, const lw_check *check, lw_pinned value)
{
    PyObject *object = value.value, *namespace;
    PyTypeObject *type = Py_TYPE(object);
    if (!lw_type_is_plain(type) || (PyType_Check(object) && !lw_type_is_plain((PyTypeObject *)object))) {
        return false;
    }
    lw_note_class(recorder, node, object);
    PyObject *found = _PyType_Lookup(type, check->object);
    if (!lw_note_version(recorder, node, type)) {
        return false;
    }
    if (PyType_Check(object)) {
        (void)_PyType_Lookup((PyTypeObject *)object, check->object);
        return type->tp_getattro == PyType_Type.tp_getattro && lw_note_version(recorder, node, (PyTypeObject *)object);
    }
    if (!PyModule_Check(object) && !lw_plain_getattribute(type)) {
        return false;
    }
    if (found != NULL && (Py_IS_TYPE(found, &PyGetSetDescr_Type) || Py_IS_TYPE(found, &PyMemberDescr_Type))) {
        return false;
    }
    if (!lw_note_name(recorder, node, object, check->object, &namespace)) {
        return false;
    }
    if (!PyModule_Check(object) && namespace != NULL && lw_has_module_getattr(type)) {
        for (int i = 0; i < LW_TABLES; i++) {
            if (!lw_note_in_table(recorder, node, namespace, i, check->object)) {
                return false;
            }
        }
    }
    return true;
}

/* The words of a tensor, shared with those of one that is alike. */
static uint64_t *
share_block(lw_recorder *recorder, const uint64_t *block)
{
    lw_stamps *set = recorder->set;
    size_t size = LW_TENSOR_BLOCK * sizeof(uint64_t);
    int first = set->blocks.n > 64 ? set->blocks.n - 64 : 0;
    for (int i = set->blocks.n - 1; i >= first; i--) {
        if (memcmp(set->blocks.items[i], block, size) == 0) {
            return set->blocks.items[i];
        }
    }
    uint64_t *copy = PyMem_Malloc(size);
    int before = set->blocks.n;
    if (copy != NULL) {
        memcpy(copy, block, size);
        PUSH(recorder, blocks, copy);
    }
    if (copy == NULL || set->blocks.n == before) {
        PyMem_Free(copy);
        recorder->failed = true;
        return NULL;
    }
    return copy;
}

static bool
prove_tensor(lw_recorder *recorder, const lw_node *node, const lw_check *check, lw_pinned value)
{
    lw_tensor_stamp stamp;
    uint64_t block[LW_TENSOR_BLOCK];
    if (!lw_tensor_stamp_make(value.value, check->tensor, &stamp, block)) {
        return false;
    }
    stamp.node = lw_number_of(recorder, node);
    stamp.block = share_block(recorder, block);
    if (lw_see(recorder, value.value)) {
        PUSH(recorder, tensors, stamp);
    }
    return true;
}

/* Whether the words noted by then prove that a check holds again. */
static bool
prove(lw_recorder *recorder, const lw_node *node, const lw_check *check, lw_pinned *value)
{
    PyObject *object = value->value, *namespace;
    switch (check->kind) {
    case LW_CHECK_TYPE:
    case LW_CHECK_TYPE_AMONG:
        lw_note_class_of(recorder, node, *value);
        return true;
    case LW_CHECK_IDENTITY: /* what it is compared with is alive while the tree is not dead */
        value->strong = true;
        return true;
    case LW_CHECK_CONSTANT:
        return object == check->object || (value->strong && is_immutable_atom(object));
    case LW_CHECK_TENSOR:
        return prove_tensor(recorder, node, check, *value);
    case LW_CHECK_LENGTH:
        return prove_length(recorder, node, *value);
    case LW_CHECK_INTEGER:
    case LW_CHECK_SCALAR:
        return value->strong && is_immutable_atom(object);
    case LW_CHECK_DICT_KEYS:
    case LW_CHECK_DICT_CONTAINS:
        if (!PyDict_Check(object) || PyODict_Check(object)) { /* an OrderedDict keeps an order of its own */
            return false;
        }
        lw_note_class_of(recorder, node, *value);
        return check->kind == LW_CHECK_DICT_KEYS ? lw_note_dict(recorder, node, object)
                                                 : lw_note_look_up(recorder, node, object, check->object);
    case LW_CHECK_ATTRIBUTE:
        return prove_presence(recorder, node, check, *value);
    case LW_CHECK_INSTANCE_DICT_LACKS:
        lw_note_class_of(recorder, node, *value);
        if (PyType_Check(object)) {
            if (!lw_type_is_plain((PyTypeObject *)object)) {
                return false;
            }
            (void)_PyType_Lookup((PyTypeObject *)object, check->object);
            return lw_note_version(recorder, node, (PyTypeObject *)object);
        }
        return lw_note_name(recorder, node, object, check->object, &namespace);
    case LW_CHECK_SPECIALS:
        if (!lw_type_is_plain((PyTypeObject *)object)) {
            return false;
        }
        lw_note_class_of(recorder, node, *value);
        lw_type_settle((PyTypeObject *)object);
        return lw_note_version(recorder, node, (PyTypeObject *)object);
    default:
        return false;
    }
}

/* Walking the tree */

static void
note_rest(lw_recorder *recorder, const lw_node *node, PyObject *base)
{
    lw_rest rest = {lw_number_of(recorder, node), base};
    PUSH(recorder, rests, rest);
}

static void
record_node(lw_recorder *recorder, const lw_node *node, lw_pinned value)
{
    lw_guard_tree *tree = recorder->tree;
    for (int i = 0; i < node->n_checks; i++) {
        if (!prove(recorder, node, &tree->checks[node->first_check + i], &value)) {
            lw_recheck recheck = {node->first_check + i, value.value};
            PUSH(recorder, rechecks, recheck);
        }
    }
    if (node->slot >= 0) {
        recorder->set->kept[node->slot] = value.value;
    }
    for (int i = node->first_child; i >= 0 && !recorder->failed; i = tree->nodes[i].next_sibling) {
        const lw_node *child = &tree->nodes[i];
        lw_pinned of_child = child->loose_value ? (lw_pinned){NULL, false} : lw_pin_child(recorder, node, child, value);
        if (of_child.value == NULL) {
            note_rest(recorder, child, value.value);
        }
        else {
            record_node(recorder, child, of_child);
        }
    }
}

static int
open_relation(lw_recorder *recorder, const lw_relation *relation)
{
    lw_stamps *set = recorder->set;
    lw_open_relation open = {relation, NULL, NULL, 0, 0};
    for (int i = 0; i < relation->n; i++) {
        open.n_slots += set->kept[relation->slots[i]] == NULL;
    }
    if (open.n_slots == 0 && relation->kind != LW_RELATION_SCALAR) {
        return 0; /* it held, and the same objects are there */
    }
    open.addresses = PyMem_Malloc((size_t)relation->n * sizeof(uintptr_t));
    open.slots = PyMem_Malloc((size_t)relation->n * sizeof(int));
    if (open.addresses == NULL || open.slots == NULL) {
        PyMem_Free(open.addresses);
        PyMem_Free(open.slots);
        return -1;
    }
    open.n_slots = 0;
    for (int i = 0; i < relation->n; i++) {
        PyObject *kept = set->kept[relation->slots[i]];
        if (kept == NULL) {
            open.slots[open.n_slots++] = relation->slots[i];
        }
        else {
            open.addresses[open.n_addresses++] = (uintptr_t)kept;
        }
    }
    qsort(open.addresses, (size_t)open.n_addresses, sizeof(uintptr_t), lw_compare_addresses);
    int before = set->relations.n;
    PUSH(recorder, relations, open);
    if (set->relations.n == before) {
        PyMem_Free(open.addresses);
        PyMem_Free(open.slots);
        return -1;
    }
    return 0;
}

static void
record_tree(lw_recorder *recorder)
{
    lw_guard_tree *tree = recorder->tree;
    for (int i = tree->first_root; i >= 0 && !recorder->failed; i = tree->nodes[i].next_sibling) {
        const lw_node *node = &tree->nodes[i];
        lw_pinned value = node->loose_value ? (lw_pinned){NULL, false} : lw_pin_root(recorder, node);
        if (value.value == NULL) {
            note_rest(recorder, node, NULL);
        }
        else {
            record_node(recorder, node, value);
        }
    }
    for (Py_ssize_t i = 0; i < tree->n_relations && !recorder->failed; i++) {
        recorder->failed = open_relation(recorder, &tree->relations[i]) < 0;
    }
    for (int i = 0; i < tree->n_slots && !recorder->failed; i++) {
        if (recorder->set->kept[i] == NULL) {
            PUSH(recorder, open_slots, i);
        }
    }
}

lw_stamps *
lw_stamps_record(lw_guard_tree *tree, const lw_scope *scope)
{
    lw_stamps *set = PyMem_Calloc(1, sizeof(lw_stamps));
    if (set == NULL) {
        return NULL;
    }
    unsigned long long calm = lw_disturbances;
    lw_recorder recorder = {.tree = tree, .scope = scope, .set = set};
    set->kept = PyMem_Calloc((size_t)tree->n_slots + 1, sizeof(PyObject *));
    recorder.failed = set->kept == NULL;
    if (!recorder.failed) {
        record_tree(&recorder);
    }
    PyMem_Free(recorder.seen);
    if (recorder.failed || calm != lw_disturbances || PyErr_Occurred()) {
        PyErr_Clear();
        lw_stamps_free(set);
        return NULL;
    }
    return set;
}

void
lw_stamps_free(lw_stamps *set)
{
    for (int i = 0; i < set->relations.n; i++) {
        PyMem_Free(set->relations.items[i].addresses);
        PyMem_Free(set->relations.items[i].slots);
    }
    for (int i = 0; i < set->blocks.n; i++) {
        PyMem_Free(set->blocks.items[i]);
    }
    PyMem_Free(set->blocks.items);
    PyMem_Free(set->tensors.items);
    PyMem_Free(set->pins.items);
    PyMem_Free(set->cells.items);
    PyMem_Free(set->stamps.items);
    PyMem_Free(set->blames.items);
    PyMem_Free(set->readings.items);
    PyMem_Free(set->rests.items);
    PyMem_Free(set->rechecks.items);
    PyMem_Free(set->relations.items);
    PyMem_Free(set->open_slots.items);
    PyMem_Free(set->kept);
    PyMem_Free(set);
}
