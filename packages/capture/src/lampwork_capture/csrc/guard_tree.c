/* GuardTree: the facts of one captured frame as a tree over what they speak about, checked in one walk.
 *
 * A node is a source; its value is read once, from its parent's, and its checks and its children share it. Python
 * (guards/tree.py) flattens the facts into the arrays that are compiled here. Invariants: objects are compared by address
 * only while a weak reference or the tree keeps the address theirs: when one of them dies the tree is dead and never holds
 * again; a check runs no code of the user's but in look-ups of keys (guard_dict.c), after which nothing is trusted that was
 * borrowed before, and leaves no exception.
 */
#include "guard_stamp.h"
#include <stdlib.h>
#include <string.h>

static PyTypeObject tree_type;

/* Reading */

static PyObject *
cell_contents(PyObject *cell)
{
    return PyCell_Check(cell) ? Py_XNewRef(PyCell_GET(cell)) : NULL;
}

static PyObject *
key_of(PyObject *dict, PyObject *key)
{
    if (dict == NULL || !PyDict_Check(dict)) {
        return NULL;
    }
    return lw_dict_get(dict, key);
}

static PyObject *
nth_of(PyObject *dict, Py_ssize_t index, bool want_key)
{
    PyObject *key, *value;
    Py_ssize_t position = 0;
    dict = lw_plain_mapping(dict);
    if (!PyDict_Check(dict)) {
        return NULL;
    }
    while (PyDict_Next(dict, &position, &key, &value)) {
        if (index-- == 0) {
            return Py_NewRef(want_key ? key : value);
        }
    }
    return NULL;
}

static PyObject *
class_attribute(PyObject *base, PyObject *name)
{
    if (PyType_Check(base)) {
        PyTypeObject *type = (PyTypeObject *)base;
#if PY_VERSION_HEX >= 0x030C0000
        PyObject *dict = PyType_GetDict(type);
        PyObject *value = key_of(dict, name);
        Py_XDECREF(dict);
        return value;
#else
        return key_of(type->tp_dict, name);
#endif
    }
    if (PyModule_Check(base)) {
        return key_of(PyModule_GetDict(base), name);
    }
    PyObject **dict = _PyObject_GetDictPtr(base);
    return dict != NULL ? key_of(*dict, name) : NULL;
}

static PyObject *
read_root(const lw_node *node, const lw_scope *scope)
{
    switch (node->access) {
    case LW_ACCESS_ARGUMENT:
        return node->index < scope->n_slots ? Py_XNewRef(scope->slots[node->index]) : NULL;
    case LW_ACCESS_CELL:
    case LW_ACCESS_CELL_OBJECT: {
        if (node->index >= scope->n_cells) {
            return NULL;
        }
        PyObject *cell = scope->cells[node->index];
        return node->access == LW_ACCESS_CELL ? cell_contents(cell) : Py_NewRef(cell);
    }
    case LW_ACCESS_GLOBAL:
        if (node->key == Py_None) { /* the dict itself */
            return Py_XNewRef(scope->globals);
        }
        return key_of(scope->globals, node->key);
    case LW_ACCESS_BUILTIN:
        return key_of(scope->builtins, node->key);
    case LW_ACCESS_MODULE:
        return key_of(PyImport_GetModuleDict(), node->key);
    default:
        return NULL;
    }
}

static PyObject *
read_of_function(const lw_node *node, PyObject *base)
{
    if (!PyFunction_Check(base)) {
        return NULL;
    }
    PyFunctionObject *function = (PyFunctionObject *)base;
    PyObject *tuple = node->access == LW_ACCESS_CLOSURE ? function->func_closure : function->func_defaults;
    switch (node->access) {
    case LW_ACCESS_DEFAULT:
    case LW_ACCESS_CLOSURE: {
        Py_ssize_t n = tuple != NULL && PyTuple_Check(tuple) ? PyTuple_GET_SIZE(tuple) : 0;
        Py_ssize_t index = node->index < 0 ? node->index + n : node->index;
        if (index < 0 || index >= n) {
            return NULL;
        }
        PyObject *item = PyTuple_GET_ITEM(tuple, index);
        return node->access == LW_ACCESS_CLOSURE ? cell_contents(item) : Py_NewRef(item);
    }
    case LW_ACCESS_KEYWORD_DEFAULT:
        return key_of(function->func_kwdefaults, node->key);
    default:
        return key_of(function->func_globals, node->key);
    }
}

static PyObject *
read_child(const lw_node *node, PyObject *base)
{
    switch (node->access) {
    case LW_ACCESS_INDEX:
        return lw_read_item(base, node->index);
    case LW_ACCESS_KEY:
        return lw_read_key(base, node->key);
    case LW_ACCESS_NTH_KEY:
        return nth_of(base, node->index, true);
    case LW_ACCESS_NTH_VALUE:
        return nth_of(base, node->index, false);
    case LW_ACCESS_TYPE:
        return Py_NewRef(Py_TYPE(base));
    case LW_ACCESS_METHOD_FUNCTION:
        return PyMethod_Check(base) ? Py_NewRef(PyMethod_GET_FUNCTION(base)) : NULL;
    case LW_ACCESS_CLASS_ATTRIBUTE:
        return class_attribute(base, node->key);
    case LW_ACCESS_SIZE:
    case LW_ACCESS_STRIDE:
        return lw_tensor_number(base, node->access == LW_ACCESS_STRIDE, node->index);
    default:
        return read_of_function(node, base);
    }
}

PyObject *
lw_read_node(const lw_node *node, PyObject *base, const lw_scope *scope)
{
    unsigned long long calm = lw_disturbances;
    PyObject *value;
    Py_XINCREF(base);
    if (base == NULL) {
        value = read_root(node, scope);
    }
    else if (node->access != LW_ACCESS_ATTRIBUTE) {
        value = read_child(node, base);
    }
    else {
        lw_object_view view = {0};
        value = lw_read_attribute(&view, base, node->key);
        lw_close_view(&view);
    }
    if (value == NULL) {
        PyErr_Clear();
    }
    lw_release(base, calm);
    return value;
}

/* Checking */

static bool
keys_are(PyObject *dict, PyObject *wanted)
{
    unsigned long long calm = lw_disturbances;
    dict = lw_plain_mapping(dict);
    Py_ssize_t n = PyTuple_GET_SIZE(wanted);
    bool is_set = PyAnySet_Check(dict);
    if (is_set ? PySet_GET_SIZE(dict) != n : !PyDict_Check(dict) || PyDict_GET_SIZE(dict) != n) {
        return false;
    }
    PyObject *ordered = NULL; /* an OrderedDict keeps an order of its own; a set has no PyDict_Next */
    if (is_set || (n > 1 && PyODict_Check(dict))) {
        ordered = lw_keys_in_order(dict);
        if (ordered == NULL || PyTuple_GET_SIZE(ordered) != n) {
            PyErr_Clear();
            lw_release(ordered, calm);
            return false;
        }
    }
    PyObject *key, *value;
    Py_ssize_t position = 0;
    bool same = true;
    for (Py_ssize_t i = 0; same && i < n; i++) {
        PyObject *expected = PyTuple_GET_ITEM(wanted, i); /* (by identity?, key) */
        if (ordered != NULL) {
            key = PyTuple_GET_ITEM(ordered, i);
        }
        else if (!PyDict_Next(dict, &position, &key, &value)) {
            same = false;
            break;
        }
        PyObject *known = PyTuple_GET_ITEM(expected, 1);
        if (PyTuple_GET_ITEM(expected, 0) == Py_True) {
            same = key == (PyWeakref_CheckRef(known) ? lw_weak_target(known) : known);
        }
        else {
            same = lw_same_constant(key, known);
        }
    }
    lw_release(ordered, calm);
    return same;
}

static bool
is_among(PyObject *type, PyObject *types)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(types); i++) {
        if (PyTuple_GET_ITEM(types, i) == type) {
            return true;
        }
    }
    return false;
}

bool
lw_check_holds(const lw_check *check, PyObject *value)
{
    switch (check->kind) {
    case LW_CHECK_TYPE:
        return (PyObject *)Py_TYPE(value) == check->object;
    case LW_CHECK_IDENTITY:
        return value == check->object;
    case LW_CHECK_CONSTANT:
        return lw_same_constant(value, check->object);
    case LW_CHECK_TENSOR:
        return lw_tensor_matches(value, check->tensor);
    case LW_CHECK_LENGTH:
        return lw_length(value) == check->number;
    case LW_CHECK_DICT_KEYS:
        return keys_are(value, check->object);
    case LW_CHECK_DICT_CONTAINS:
        value = lw_plain_mapping(value);
        if (PyAnySet_Check(value)) {
            return lw_set_has(value, check->object) == (int)check->flag;
        }
        return PyDict_Check(value) && lw_dict_has(value, check->object) == (int)check->flag;
    case LW_CHECK_ATTRIBUTE:
        return lw_has_attribute(value, check->object) == (int)check->flag;
    case LW_CHECK_INSTANCE_DICT_LACKS:
        return lw_instance_dict_has(value, check->object) == 0;
    case LW_CHECK_INTEGER:
        return lw_integer_within(value, check->lower, check->upper);
    case LW_CHECK_SCALAR:
        return lw_scalar_holds(check->program, &value);
    case LW_CHECK_TYPE_AMONG:
        return is_among((PyObject *)Py_TYPE(value), check->object);
    case LW_CHECK_SPECIALS:
        return lw_specials_hold(check->specials, value);
    default:
        return false;
    }
}

static bool
children_hold(const lw_guard_tree *tree, lw_node *node, PyObject *value, PyObject **kept)
{
    lw_object_view view = {0};
    unsigned long long calm = lw_disturbances; /* the node is not touched after one: a check that ran in it used it too */
    bool unchanged = node->has_attributes && lw_attributes_unchanged(&node->attributes, value);
    if (!unchanged) {
        node->attributes.type = NULL; /* what the children remember is about to be of another state */
    }
    bool hold = true;
    for (int i = node->first_child; hold && i >= 0; i = tree->nodes[i].next_sibling) {
        lw_node *child = &tree->nodes[i];
        PyObject *of_child;
        if (child->access != LW_ACCESS_ATTRIBUTE) {
            of_child = read_child(child, value);
        }
        else if (unchanged && calm == lw_disturbances && child->remembered != NULL) {
            of_child = Py_NewRef(child->remembered);
        }
        else {
            of_child = lw_read_attribute(&view, value, child->key);
            if (calm == lw_disturbances) {
                child->remembered = view.from_dict ? of_child : NULL;
            }
        }
        hold = lw_node_holds(tree, child, of_child, kept);
    }
    if (hold && node->has_attributes && !unchanged && calm == lw_disturbances) {
        lw_attributes_remember(&node->attributes, value, &view);
    }
    lw_close_view(&view);
    return hold;
}

bool
lw_node_holds(const lw_guard_tree *tree, lw_node *node, PyObject *value, PyObject **kept)
{
    if (value == NULL) {
        return false;
    }
    unsigned long long calm = lw_disturbances;
    bool holds = true;
    const lw_check *check = tree->checks + node->first_check;
    for (int i = 0; holds && i < node->n_checks; i++) {
        holds = lw_check_holds(check + i, value);
    }
    if (holds && node->first_child >= 0) {
        holds = children_hold(tree, node, value, kept);
    }
    if (node->slot >= 0) {
        Py_XSETREF(kept[node->slot], value);
    }
    else {
        lw_release(value, calm);
    }
    return holds;
}

int
lw_compare_addresses(const void *a, const void *b)
{
    uintptr_t x = *(const uintptr_t *)a, y = *(const uintptr_t *)b;
    return x < y ? -1 : x > y;
}

static bool
relation_holds(const lw_relation *relation, PyObject **kept)
{
    if (relation->kind == LW_RELATION_SCALAR) {
        PyObject *numbers[MOST_NUMBERS];
        for (int i = 0; i < relation->n; i++) {
            numbers[i] = kept[relation->slots[i]];
            if (numbers[i] == NULL) {
                return false;
            }
        }
        return lw_scalar_holds(relation->program, numbers);
    }
    if (relation->kind == LW_RELATION_SAME) {
        return kept[relation->slots[0]] == kept[relation->slots[1]];
    }
    int n = relation->n;
    uintptr_t small[128];
    uintptr_t *addresses = n <= 128 ? small : PyMem_Malloc((size_t)n * sizeof(uintptr_t));
    if (addresses == NULL) {
        return false;
    }
    for (int i = 0; i < n; i++) {
        addresses[i] = (uintptr_t)kept[relation->slots[i]];
    }
    qsort(addresses, (size_t)n, sizeof(uintptr_t), lw_compare_addresses);
    bool distinct = true;
    for (int i = 1; distinct && i < n; i++) {
        distinct = addresses[i - 1] != addresses[i];
    }
    if (addresses != small) {
        PyMem_Free(addresses);
    }
    return distinct;
}

bool
lw_tree_holds(const lw_guard_tree *tree, const lw_scope *scope, PyObject **kept)
{
    for (int i = tree->first_root; i >= 0; i = tree->nodes[i].next_sibling) {
        if (!lw_node_holds(tree, &tree->nodes[i], read_root(&tree->nodes[i], scope), kept)) {
            return false;
        }
    }
    for (Py_ssize_t i = 0; i < tree->n_relations; i++) {
        if (!relation_holds(&tree->relations[i], kept)) {
            return false;
        }
    }
    return true;
}

bool
lw_guard_tree_is(PyObject *object)
{
    return Py_IS_TYPE(object, &tree_type);
}

int
lw_guard_tree_hands_over(PyObject *tree)
{
    return ((lw_guard_tree *)tree)->n_inputs;
}

void
lw_guard_tree_set_entry(PyObject *tree, lw_entry *entry)
{
    ((lw_guard_tree *)tree)->entry = entry;
}

/* Death of an object that is compared by address */

static PyObject *
notice_call(lw_death_notice *notice, PyObject *args, PyObject *kwargs)
{
    (void)args;
    (void)kwargs;
    lw_guard_tree *tree = notice->tree;
    if (tree != NULL && !tree->dead) {
        tree->dead = true;
        if (tree->entry != NULL) {
            lw_entry_unlink(tree->entry); /* may free the tree */
        }
    }
    Py_RETURN_NONE;
}

PyTypeObject lw_notice_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "lampwork_capture._native.DeathNotice",
    .tp_basicsize = sizeof(lw_death_notice),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_call = (ternaryfunc)notice_call,
};

/* The Python type */

static PyObject *
tree_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"nodes", "checks", "relations", "state", "inputs", "extras", "stamps", NULL};
    PyObject *nodes, *checks, *relations, *state, *inputs, *extras;
    int stamped;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!O!O!O!O!O!i:GuardTree", names, &PyTuple_Type, &nodes, &PyTuple_Type,
                                     &checks, &PyTuple_Type, &relations, &PyTuple_Type, &state, &PyTuple_Type, &inputs,
                                     &PyTuple_Type, &extras, &stamped)) {
        return NULL;
    }
    lw_guard_tree *tree = (lw_guard_tree *)type->tp_alloc(type, 0);
    if (tree == NULL) {
        return NULL;
    }
    tree->first_root = -1;
    tree->stamped = stamped;
    tree->held = PyList_New(0);
    tree->notice = PyObject_New(lw_death_notice, &lw_notice_type);
    if (tree->notice != NULL) {
        tree->notice->tree = tree;
    }
    if (tree->held == NULL || tree->notice == NULL || lw_guard_tree_fill(tree, nodes, checks, relations, state, inputs, extras) < 0) {
        Py_DECREF(tree);
        return NULL;
    }
    return (PyObject *)tree;
}

static int
tree_traverse(lw_guard_tree *tree, visitproc visit, void *arg)
{
    Py_VISIT(tree->held);
    return 0;
}

static int
tree_clear(lw_guard_tree *tree)
{
    tree->dead = true; /* what it compares with may go now */
    Py_CLEAR(tree->held);
    return 0;
}

static void
tree_dealloc(lw_guard_tree *tree)
{
    PyObject_GC_UnTrack(tree);
    tree->dead = true;
    if (tree->notice != NULL) {
        tree->notice->tree = NULL;
        Py_CLEAR(tree->notice);
    }
    Py_CLEAR(tree->held);
    while (tree->n_sets > 0) {
        lw_drop_stamps(tree, tree->n_sets - 1);
    }
    lw_guard_tree_free_arrays(tree);
    Py_TYPE(tree)->tp_free((PyObject *)tree);
}

static int
parse_scope(PyObject *args, lw_scope *scope)
{
    PyObject *slots, *closure, *globals, *builtins;
    if (!PyArg_ParseTuple(args, "O!OO!O!", &PyTuple_Type, &slots, &closure, &PyDict_Type, &globals, &PyDict_Type, &builtins)) {
        return -1;
    }
    if (closure != Py_None && !PyTuple_Check(closure)) {
        PyErr_SetString(PyExc_TypeError, "the closure must be a tuple of cells or None");
        return -1;
    }
    scope->slots = ((PyTupleObject *)slots)->ob_item;
    scope->n_slots = PyTuple_GET_SIZE(slots);
    scope->cells = closure == Py_None ? NULL : ((PyTupleObject *)closure)->ob_item;
    scope->n_cells = closure == Py_None ? 0 : PyTuple_GET_SIZE(closure);
    scope->globals = globals;
    scope->builtins = builtins;
    return 0;
}

static PyObject *
tree_check(lw_guard_tree *tree, PyObject *args)
{
    lw_scope scope;
    return parse_scope(args, &scope) < 0 ? NULL : PyBool_FromLong(lw_guard_tree_check((PyObject *)tree, &scope, NULL));
}

static PyObject *
tree_read_handed(lw_guard_tree *tree, PyObject *args)
{
    lw_scope scope;
    PyObject *handed = NULL;
    if (parse_scope(args, &scope) < 0) {
        return NULL;
    }
    lw_guard_tree_check((PyObject *)tree, &scope, &handed);
    return handed != NULL ? handed : Py_NewRef(Py_None);
}

static PyObject *
tree_counts(lw_guard_tree *tree, void *unused)
{
    (void)unused;
    lw_stamps *set = tree->n_sets > 0 ? tree->sets[0] : NULL;
    return Py_BuildValue("{s:n,s:n,s:K,s:K,s:i,s:i,s:i,s:i,s:i,s:i}", "nodes", tree->n_nodes, "checks", tree->n_checks, "walks",
                         tree->walks, "sweeps", tree->sweeps, "sets", tree->n_sets, "stamps", set ? set->stamps.n : 0,
                         "tensors", set ? set->tensors.n : 0,
                         "readings", set ? set->readings.n : 0, "rests", set ? set->rests.n : 0, "rechecks",
                         set ? set->rechecks.n : 0);
}

static PyObject *
tree_is_dead(lw_guard_tree *tree, void *unused)
{
    (void)unused;
    return PyBool_FromLong(tree->dead);
}

static PyMethodDef tree_methods[] = {
    {"check", (PyCFunction)tree_check, METH_VARARGS, "check(argument slots, closure, globals, builtins) -> bool"},
    {"read_handed", (PyCFunction)tree_read_handed, METH_VARARGS,
     "read_handed(argument slots, closure, globals, builtins) -> what a check hands over, or None where it does not hold"},
    {NULL},
};

static PyGetSetDef tree_getset[] = {
    {"is_dead", (getter)tree_is_dead, NULL, "whether an object that it compares with is gone, so that it never holds", NULL},
    {"counts", (getter)tree_counts, NULL, "sizes; full walks and sweeps of stamps so far; what the last stamps consist of", NULL},
    {NULL},
};

static PyTypeObject tree_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "lampwork_capture._native.GuardTree",
    .tp_doc = "GuardTree(nodes, checks, relations, state, inputs, extras, stamps): see lampwork_capture.guards.tree, which makes them.",
    .tp_basicsize = sizeof(lw_guard_tree),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = tree_new,
    .tp_traverse = (traverseproc)tree_traverse,
    .tp_clear = (inquiry)tree_clear,
    .tp_dealloc = (destructor)tree_dealloc,
    .tp_methods = tree_methods,
    .tp_getset = tree_getset,
};

int
lw_guard_setup(PyObject *module)
{
    static const char *accesses[] = {"ARGUMENT", "CELL", "CELL_OBJECT", "GLOBAL", "BUILTIN", "MODULE", "ATTRIBUTE", "INDEX",
                                     "KEY", "NTH_KEY", "NTH_VALUE", "DEFAULT", "KEYWORD_DEFAULT", "CLOSURE",
                                     "FUNCTION_GLOBAL", "TYPE", "METHOD_FUNCTION", "CLASS_ATTRIBUTE", "SIZE", "STRIDE"};
    static const char *checks[] = {"TYPE", "IDENTITY", "CONSTANT", "TENSOR", "LENGTH", "DICT_KEYS", "DICT_CONTAINS",
                                   "ATTRIBUTE", "INSTANCE_DICT_LACKS", "INTEGER", "SCALAR", "SPECIALS", "TYPE_AMONG"};
    char name[64];
    for (int i = 0; i < LW_ACCESS_COUNT; i++) {
        PyOS_snprintf(name, sizeof(name), "ACCESS_%s", accesses[i]);
        if (PyModule_AddIntConstant(module, name, i) < 0) {
            return -1;
        }
    }
    for (int i = 0; i < LW_CHECK_COUNT; i++) {
        PyOS_snprintf(name, sizeof(name), "CHECK_%s", checks[i]);
        if (PyModule_AddIntConstant(module, name, i) < 0) {
            return -1;
        }
    }
    if (PyType_Ready(&lw_notice_type) < 0 || PyType_Ready(&tree_type) < 0 || PyModule_AddType(module, &tree_type) < 0) {
        return -1;
    }
    return lw_versions_setup() < 0 || lw_access_setup(module) < 0 ? -1 : lw_tensor_setup(module);
}
