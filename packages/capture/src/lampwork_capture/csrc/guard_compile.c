/* Builds a guard tree from the arrays that guards/tree.py flattens the facts into.
 *
 * Invariant: every object that a node or check points to is kept in the tree's `held`, itself or by a weak reference whose
 * death notice ends the tree.
 */
#include "guard_tree.h"

/* A pointer that may be compared while the tree is not dead. */
static PyObject *
hold(lw_guard_tree *tree, PyObject *object, bool weakly)
{
    bool static_type = PyType_Check(object) && !(((PyTypeObject *)object)->tp_flags & Py_TPFLAGS_HEAPTYPE);
    PyObject *held = object;
    if (weakly && !static_type && PyType_SUPPORTS_WEAKREFS(Py_TYPE(object))) {
        held = PyWeakref_NewRef(object, (PyObject *)tree->notice);
        if (held == NULL) {
            return NULL;
        }
    }
    else {
        Py_INCREF(held);
    }
    int failed = PyList_Append(tree->held, held);
    Py_DECREF(held);
    return failed < 0 ? NULL : object;
}

/* Names are looked up in classes, where no `__hash__` of the user's may run. */
static bool
is_name(PyObject *name)
{
    if (!PyUnicode_CheckExact(name)) {
        PyErr_Format(PyExc_TypeError, "the name of an attribute must be a str, not %.100s", Py_TYPE(name)->tp_name);
        return false;
    }
    return true;
}

/* Compilation from Python's arrays */

static int
compile_nodes(lw_guard_tree *tree, PyObject *specs)
{
    tree->n_nodes = PyTuple_GET_SIZE(specs);
    tree->nodes = PyMem_Calloc((size_t)tree->n_nodes + 1, sizeof(lw_node));
    int *last_child = PyMem_Malloc(((size_t)tree->n_nodes + 1) * sizeof(int));
    if (tree->nodes == NULL || last_child == NULL) {
        PyMem_Free(last_child);
        PyErr_NoMemory();
        return -1;
    }
    int last_root = -1, failed = 0;
    for (int i = 0; i < tree->n_nodes && !failed; i++) {
        lw_node *node = &tree->nodes[i];
        int parent, access;
        PyObject *key;
        if (!PyArg_ParseTuple(PyTuple_GET_ITEM(specs, i), "iiOni:node", &parent, &access, &key, &node->index, &node->slot)) {
            failed = 1;
            break;
        }
        if (parent >= i || access < 0 || access >= LW_ACCESS_COUNT || (access <= LW_ACCESS_MODULE) != (parent < 0)) {
            PyErr_Format(PyExc_ValueError, "node %d: bad parent %d or access %d", i, parent, access);
            failed = 1;
            break;
        }
        if (access == LW_ACCESS_ATTRIBUTE && !is_name(key)) {
            failed = 1;
            break;
        }
        node->access = access;
        node->key = hold(tree, key, false);
        node->first_child = node->next_sibling = last_child[i] = -1;
        failed = node->key == NULL;
        if (node->slot >= tree->n_slots) {
            tree->n_slots = node->slot + 1;
        }
        if (access == LW_ACCESS_ATTRIBUTE) {
            tree->nodes[parent].has_attributes = true;
        }
        int *last = parent < 0 ? &last_root : &last_child[parent];
        int *first = parent < 0 ? &tree->first_root : &tree->nodes[parent].first_child;
        if (*last < 0) {
            *first = i;
        }
        else {
            tree->nodes[*last].next_sibling = i;
        }
        *last = i;
    }
    PyMem_Free(last_child);
    return failed ? -1 : 0;
}

/* (by identity?, key) pairs, the identities as weak references where possible. */
static PyObject *
compile_keys(lw_guard_tree *tree, PyObject *pairs)
{
    PyObject *result = PyTuple_New(PyTuple_GET_SIZE(pairs));
    for (Py_ssize_t i = 0; result != NULL && i < PyTuple_GET_SIZE(pairs); i++) {
        PyObject *by_identity, *key, *known;
        if (!PyArg_ParseTuple(PyTuple_GET_ITEM(pairs, i), "O!O:key", &PyBool_Type, &by_identity, &key)) {
            Py_CLEAR(result);
            break;
        }
        bool weak = by_identity == Py_True && PyType_SUPPORTS_WEAKREFS(Py_TYPE(key));
        known = weak ? PyWeakref_NewRef(key, (PyObject *)tree->notice) : Py_NewRef(key);
        PyObject *pair = known != NULL ? PyTuple_Pack(2, by_identity, known) : NULL;
        Py_XDECREF(known);
        if (pair == NULL) {
            Py_CLEAR(result);
            break;
        }
        PyTuple_SET_ITEM(result, i, pair);
    }
    if (result == NULL) {
        return NULL;
    }
    PyObject *held = hold(tree, result, false);
    Py_DECREF(result);
    return held;
}

/* (a dict of names to numbers, by number None, a type or the very object). The program's own are held weakly. */
static lw_specials *
compile_specials(lw_guard_tree *tree, PyObject *argument)
{
    PyObject *places, *expected;
    if (!PyArg_ParseTuple(argument, "O!O!:specials", &PyDict_Type, &places, &PyTuple_Type, &expected)
        || hold(tree, places, false) == NULL) {
        return NULL;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(expected); i++) {
        PyObject *item = PyTuple_GET_ITEM(expected, i);
        bool is_static = PyType_Check(item) && !(((PyTypeObject *)item)->tp_flags & Py_TPFLAGS_HEAPTYPE);
        if (item != Py_None && !is_static && hold(tree, item, true) == NULL) {
            return NULL;
        }
    }
    return lw_specials_compile(places, expected);
}

static int
compile_check(lw_guard_tree *tree, lw_check *check, PyObject *argument, int flag)
{
    check->flag = flag != 0;
    switch (check->kind) {
    case LW_CHECK_TENSOR: {
        check->tensor = lw_tensor_compile(argument);
        if (check->tensor == NULL) {
            return -1;
        }
        bool kept = hold(tree, (PyObject *)check->tensor->type, true) && hold(tree, check->tensor->dtype, false)
                    && hold(tree, check->tensor->device, false) && hold(tree, check->tensor->layout, false);
        return kept ? 0 : -1;
    }
    case LW_CHECK_LENGTH:
        check->number = PyLong_AsSsize_t(argument);
        return check->number == -1 && PyErr_Occurred() ? -1 : 0;
    case LW_CHECK_DICT_KEYS:
        if (!PyTuple_Check(argument)) {
            PyErr_SetString(PyExc_TypeError, "keys must be a tuple of (by identity?, key)");
            return -1;
        }
        check->object = compile_keys(tree, argument);
        break;
    case LW_CHECK_INTEGER: {
        long long lower, upper;
        if (!PyArg_ParseTuple(argument, "LL:bounds", &lower, &upper)) {
            return -1;
        }
        check->lower = lower;
        check->upper = upper;
        return 0;
    }
    case LW_CHECK_SCALAR:
        check->object = hold(tree, argument, false);
        check->program = check->object != NULL ? lw_scalar_compile(argument) : NULL;
        return check->program != NULL ? 0 : -1;
    case LW_CHECK_SPECIALS:
        check->specials = compile_specials(tree, argument);
        return check->specials != NULL ? 0 : -1;
    case LW_CHECK_TYPE:
    case LW_CHECK_IDENTITY:
        check->object = hold(tree, argument, true);
        break;
    case LW_CHECK_ATTRIBUTE:
    case LW_CHECK_INSTANCE_DICT_LACKS:
        check->object = is_name(argument) ? hold(tree, argument, false) : NULL;
        break;
    default:
        check->object = hold(tree, argument, false);
    }
    return check->object != NULL ? 0 : -1;
}

/* Checks come grouped by node, in node order. */
static int
compile_checks(lw_guard_tree *tree, PyObject *specs)
{
    tree->checks = PyMem_Calloc((size_t)PyTuple_GET_SIZE(specs) + 1, sizeof(lw_check));
    if (tree->checks == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    tree->n_checks = PyTuple_GET_SIZE(specs);
    int last_node = -1;
    for (int i = 0; i < tree->n_checks; i++) {
        int node, kind, flag;
        PyObject *argument;
        if (!PyArg_ParseTuple(PyTuple_GET_ITEM(specs, i), "iiOp:check", &node, &kind, &argument, &flag)) {
            return -1;
        }
        if (node < last_node || node >= tree->n_nodes || node < 0 || kind < 0 || kind >= LW_CHECK_COUNT) {
            PyErr_Format(PyExc_ValueError, "check %d: bad node %d or kind %d", i, node, kind);
            return -1;
        }
        if (node != last_node) {
            tree->nodes[node].first_check = i;
            last_node = node;
        }
        tree->nodes[node].n_checks++;
        tree->checks[i].kind = kind;
        if (compile_check(tree, &tree->checks[i], argument, flag) < 0) {
            return -1;
        }
    }
    return 0;
}

static int
compile_relations(lw_guard_tree *tree, PyObject *specs)
{
    tree->relations = PyMem_Calloc((size_t)PyTuple_GET_SIZE(specs) + 1, sizeof(lw_relation));
    if (tree->relations == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(specs); i++) {
        int kind;
        PyObject *slots, *program = Py_None;
        if (!PyArg_ParseTuple(PyTuple_GET_ITEM(specs, i), "iO!|O:relation", &kind, &PyTuple_Type, &slots, &program)) {
            return -1;
        }
        if (kind < LW_RELATION_SAME || kind > LW_RELATION_SCALAR
            || (kind == LW_RELATION_SCALAR && PyTuple_GET_SIZE(slots) > MOST_NUMBERS)) {
            PyErr_Format(PyExc_ValueError, "relation: bad kind %d", kind);
            return -1;
        }
        lw_relation *relation = &tree->relations[i];
        relation->kind = kind;
        relation->n = (int)PyTuple_GET_SIZE(slots);
        relation->slots = PyMem_Calloc((size_t)relation->n + 1, sizeof(int));
        tree->n_relations = i + 1;
        if (relation->slots == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        for (int j = 0; j < relation->n; j++) {
            long slot = PyLong_AsLong(PyTuple_GET_ITEM(slots, j));
            if (slot < 0 || slot >= tree->n_slots || relation->n < 2) {
                PyErr_SetString(PyExc_ValueError, "relation: bad slot");
                return -1;
            }
            relation->slots[j] = (int)slot;
        }
        if (relation->kind == LW_RELATION_SCALAR) {
            relation->program = hold(tree, program, false) != NULL ? lw_scalar_compile(program) : NULL;
            if (relation->program == NULL) {
                return -1;
            }
        }
    }
    return 0;
}

static int
compile_handed(lw_guard_tree *tree, PyObject *inputs, PyObject *extras)
{
    tree->n_inputs = (int)PyTuple_GET_SIZE(inputs);
    tree->n_extras = (int)PyTuple_GET_SIZE(extras);
    int n = tree->n_inputs + tree->n_extras;
    tree->handed = PyMem_Calloc((size_t)n + 1, sizeof(int));
    if (tree->handed == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (int i = 0; i < n; i++) {
        bool input = i < tree->n_inputs;
        long slot = PyLong_AsLong(input ? PyTuple_GET_ITEM(inputs, i) : PyTuple_GET_ITEM(extras, i - tree->n_inputs));
        if (slot < 0 || slot >= tree->n_slots) {
            PyErr_SetString(PyExc_ValueError, "inputs and extras: bad slot");
            return -1;
        }
        tree->handed[i] = (int)slot;
    }
    return 0;
}

int
lw_guard_tree_fill(lw_guard_tree *tree, PyObject *nodes, PyObject *checks, PyObject *relations, PyObject *state,
                   PyObject *inputs, PyObject *extras)
{
    if (hold(tree, state, false) == NULL || compile_nodes(tree, nodes) < 0 || compile_checks(tree, checks) < 0
        || compile_relations(tree, relations) < 0 || compile_handed(tree, inputs, extras) < 0) {
        return -1;
    }
    tree->state = lw_state_compile(state, &tree->n_state);
    if (tree->state == NULL) {
        tree->n_state = 0;
        return -1;
    }
    return 0;
}

void
lw_guard_tree_free_arrays(lw_guard_tree *tree)
{
    for (Py_ssize_t i = 0; i < tree->n_checks; i++) {
        PyMem_Free(tree->checks[i].tensor);
        PyMem_Free(tree->checks[i].program);
        lw_specials_free(tree->checks[i].specials);
    }
    for (Py_ssize_t i = 0; i < tree->n_relations; i++) {
        PyMem_Free(tree->relations[i].slots);
        PyMem_Free(tree->relations[i].program);
    }
    PyMem_Free(tree->nodes);
    PyMem_Free(tree->checks);
    PyMem_Free(tree->relations);
    PyMem_Free(tree->handed);
    PyMem_Free(tree->state);
}
