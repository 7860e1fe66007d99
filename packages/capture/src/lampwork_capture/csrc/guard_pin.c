/* Pinning: how the value of a node follows from that of its parent, as words that prove it (see guard_record.c).
 *
 * It mirrors guard_access.c and the reading of nodes in guard_tree.c. Invariant: a node is pinned only if reading it again
 * surely gives the object at the same address while the words noted so far are as they were; nothing of the user's runs.
 */
#include "guard_record.h"
#include <stddef.h>
#include <structmember.h>

static const lw_pinned not_pinned = {NULL, false};

static lw_pinned
pin_word(lw_recorder *recorder, const lw_node *node, PyObject *const *place)
{
    if (*place == NULL) {
        return not_pinned;
    }
    lw_note_word(recorder, node, LW_BLAME_VALUE, place);
    return (lw_pinned){*place, false};
}

static lw_pinned
pin_tuple_item(lw_recorder *recorder, const lw_node *node, lw_pinned base, Py_ssize_t index)
{
    PyTupleObject *tuple = (PyTupleObject *)base.value;
    Py_ssize_t n = Py_SIZE(tuple);
    index = index < 0 ? index + n : index;
    if (index < 0 || index >= n) {
        return not_pinned;
    }
    if (base.strong) {
        return (lw_pinned){tuple->ob_item[index], true};
    }
    lw_note_class(recorder, node, base.value);
    lw_note_word(recorder, node, LW_BLAME_VALUE, &((PyVarObject *)tuple)->ob_size);
    return pin_word(recorder, node, &tuple->ob_item[index]);
}

static lw_pinned
pin_item(lw_recorder *recorder, const lw_node *node, lw_pinned base, Py_ssize_t index)
{
    if (PyTuple_CheckExact(base.value)) {
        return pin_tuple_item(recorder, node, base, index);
    }
    if (!PyList_CheckExact(base.value)) {
        return not_pinned;
    }
    PyListObject *list = (PyListObject *)base.value;
    index = index < 0 ? index + Py_SIZE(list) : index;
    if (index < 0 || index >= Py_SIZE(list)) {
        return not_pinned;
    }
    lw_note_class_of(recorder, node, base);
    lw_note_word(recorder, node, LW_BLAME_VALUE, &((PyVarObject *)list)->ob_size);
    lw_note_word(recorder, node, LW_BLAME_VALUE, &list->ob_item);
    return pin_word(recorder, node, &list->ob_item[index]);
}

static PyObject *
find_in_dict(PyObject *dict, PyObject *key)
{
    return dict != NULL && PyDict_Check(dict) ? lw_dict_peek(dict, key) : NULL;
}

/* A child whose value is looked up in a dictionary, which is pinned. */
static lw_pinned
pin_in_dict(lw_recorder *recorder, const lw_node *parent, const lw_node *child, PyObject *base, PyObject *dict)
{
    PyObject *value = find_in_dict(dict, child->key);
    if (value == NULL) {
        return not_pinned;
    }
    if (lw_note_look_up(recorder, parent, dict, child->key)) {
        return (lw_pinned){value, true};
    }
    lw_note_reading(recorder, child, base, value);
    return (lw_pinned){value, false};
}

static lw_pinned
pin_function_part(lw_recorder *recorder, const lw_node *node, PyObject *base, PyObject *name, bool *known)
{
    PyFunctionObject *function = (PyFunctionObject *)base;
    struct {
        const char *name;
        PyObject **place;
    } parts[] = {
        {"__code__", &function->func_code},         {"__globals__", &function->func_globals},
        {"__defaults__", &function->func_defaults}, {"__kwdefaults__", &function->func_kwdefaults},
        {"__closure__", &function->func_closure},
    };
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        if (PyUnicode_CompareWithASCIIString(name, parts[i].name) == 0) {
            *known = true;
            if (*parts[i].place == NULL) { /* read as None */
                lw_note_word(recorder, node, LW_BLAME_VALUE, parts[i].place);
                return (lw_pinned){Py_None, true};
            }
            return pin_word(recorder, node, parts[i].place);
        }
    }
    return not_pinned;
}

/* A slot of a class written in C or of one with `__slots__`. */
static lw_pinned
pin_member(lw_recorder *recorder, const lw_node *node, PyObject *object, PyObject *descriptor)
{
    PyMemberDef *member = ((PyMemberDescrObject *)descriptor)->d_member;
    if ((member->type != T_OBJECT && member->type != T_OBJECT_EX) || (member->flags & ~READONLY) != 0 || member->offset <= 0) {
        return not_pinned;
    }
    return pin_word(recorder, node, (PyObject **)((char *)object + member->offset));
}

static lw_pinned
pin_class_attribute(lw_recorder *recorder, const lw_node *node, PyTypeObject *class, PyObject *name)
{
    PyTypeObject *meta = Py_TYPE(class);
    if (meta->tp_getattro != PyType_Type.tp_getattro || !lw_type_is_plain(meta) || !lw_type_is_plain(class)) {
        return not_pinned;
    }
    PyObject *of_meta = _PyType_Lookup(meta, name), *found = _PyType_Lookup(class, name);
    lw_note_class(recorder, node, (PyObject *)class);
    if (!lw_note_version(recorder, node, meta)) {
        return not_pinned;
    }
    if (of_meta != NULL && Py_TYPE(of_meta)->tp_descr_set != NULL) {
        return Py_IS_TYPE(of_meta, &PyMemberDescr_Type) ? pin_member(recorder, node, (PyObject *)class, of_meta) : not_pinned;
    }
    if (found == NULL || !lw_note_version(recorder, node, class) || !lw_read_raw_from_class(found)) {
        return not_pinned;
    }
    return (lw_pinned){found, true};
}

/* What nn.Module.__getattr__ finds. The namespace of the module is pinned. */
static lw_pinned
pin_member_of_module(lw_recorder *recorder, const lw_node *parent, const lw_node *child, PyObject *base, PyObject *namespace,
                     bool steady)
{
    if (!lw_has_module_getattr(Py_TYPE(base)) || namespace == NULL) {
        return not_pinned;
    }
    for (int i = 0; i < LW_TABLES; i++) {
        PyObject *table = lw_module_table(namespace, i);
        steady = steady && lw_note_in_table(recorder, parent, namespace, i, child->key);
        if (table == NULL) {
            continue;
        }
        PyObject *value = find_in_dict(table, child->key);
        if (value != NULL) {
            if (!steady) {
                lw_note_reading(recorder, child, base, value);
            }
            return (lw_pinned){value, steady};
        }
    }
    return not_pinned;
}

static lw_pinned
pin_attribute(lw_recorder *recorder, const lw_node *parent, const lw_node *child, lw_pinned base)
{
    PyObject *object = base.value, *name = child->key, *namespace;
    PyTypeObject *type = Py_TYPE(object);
    if (PyType_Check(object)) {
        return pin_class_attribute(recorder, parent, (PyTypeObject *)object, name);
    }
    if (PyMethod_Check(object)) {
        return not_pinned;
    }
    lw_note_class_of(recorder, parent, base);
    if (PyFunction_Check(object)) {
        bool known = false;
        lw_pinned part = pin_function_part(recorder, parent, object, name, &known);
        if (known) {
            return part;
        }
    }
    if (!lw_plain_getattribute(type)) { /* only its namespace can be read */
        if (PyUnicode_CompareWithASCIIString(name, "__dict__") != 0 || lw_dict_place(object) == NULL) {
            return not_pinned;
        }
        return pin_word(recorder, parent, lw_dict_place(object));
    }
    PyObject *found = _PyType_Lookup(type, name);
    if (!lw_note_version(recorder, parent, type)) {
        return not_pinned;
    }
    if (found != NULL && Py_TYPE(found)->tp_descr_set != NULL) {
        if (Py_IS_TYPE(found, &PyMemberDescr_Type)) {
            return pin_member(recorder, parent, object, found);
        }
        if (Py_IS_TYPE(found, &PyGetSetDescr_Type) && PyUnicode_CompareWithASCIIString(name, "__dict__") == 0
            && lw_dict_place(object) != NULL) {
            return pin_word(recorder, parent, lw_dict_place(object));
        }
        return not_pinned;
    }
    bool steady = lw_note_name(recorder, parent, object, name, &namespace);
    PyObject *value = find_in_dict(namespace, name);
    if (value == NULL && found == NULL) {
        return pin_member_of_module(recorder, parent, child, object, namespace, steady);
    }
    if (value == NULL) {
        return steady && Py_TYPE(found)->tp_descr_get == NULL ? (lw_pinned){found, true} : not_pinned;
    }
    if (!steady) {
        lw_note_reading(recorder, child, object, value);
    }
    return (lw_pinned){value, steady};
}

static lw_pinned
pin_contents(lw_recorder *recorder, const lw_node *node, PyObject *cell)
{
    return cell != NULL && PyCell_Check(cell) ? pin_word(recorder, node, &((PyCellObject *)cell)->ob_ref) : not_pinned;
}

static lw_pinned
pin_of_function(lw_recorder *recorder, const lw_node *parent, const lw_node *child, lw_pinned base)
{
    PyFunctionObject *function = (PyFunctionObject *)base.value;
    if (!PyFunction_Check(base.value)) {
        return not_pinned;
    }
    lw_note_class_of(recorder, parent, base);
    lw_pinned part;
    switch (child->access) {
    case LW_ACCESS_DEFAULT:
        part = pin_word(recorder, parent, &function->func_defaults);
        return part.value != NULL && PyTuple_CheckExact(part.value) ? pin_tuple_item(recorder, parent, part, child->index)
                                                                     : not_pinned;
    case LW_ACCESS_CLOSURE:
        part = pin_word(recorder, parent, &function->func_closure);
        part = part.value != NULL && PyTuple_CheckExact(part.value) ? pin_tuple_item(recorder, parent, part, child->index)
                                                                    : not_pinned;
        return pin_contents(recorder, parent, part.value);
    case LW_ACCESS_KEYWORD_DEFAULT:
        part = pin_word(recorder, parent, &function->func_kwdefaults);
        break;
    default:
        part = pin_word(recorder, parent, &function->func_globals);
    }
    return part.value == NULL ? not_pinned : pin_in_dict(recorder, parent, child, base.value, part.value);
}

static lw_pinned
pin_in_class(lw_recorder *recorder, const lw_node *parent, const lw_node *child, lw_pinned base)
{
    PyObject *value = lw_read_node(child, base.value, recorder->scope), *namespace;
    Py_XDECREF(value); /* it stands in the namespace */
    if (value == NULL) {
        return not_pinned;
    }
    if (PyType_Check(base.value)) {
        lw_note_class_of(recorder, parent, base);
        bool steady = lw_type_is_plain((PyTypeObject *)base.value) && lw_note_version(recorder, parent, (PyTypeObject *)base.value);
        return steady ? (lw_pinned){value, true} : not_pinned;
    }
    lw_note_class_of(recorder, parent, base);
    if (!lw_note_name(recorder, parent, base.value, child->key, &namespace)) {
        lw_note_reading(recorder, child, base.value, value);
        return (lw_pinned){value, false};
    }
    return (lw_pinned){value, true};
}

static lw_pinned
pin_nth(lw_recorder *recorder, const lw_node *parent, const lw_node *child, lw_pinned base)
{
    if (!PyDict_Check(base.value)) {
        return not_pinned;
    }
    lw_note_class_of(recorder, parent, base);
    PyObject *value = lw_read_node(child, base.value, recorder->scope);
    Py_XDECREF(value); /* the dictionary holds it */
    if (value == NULL || lw_note_dict(recorder, parent, base.value)) {
        return (lw_pinned){value, true};
    }
    lw_note_reading(recorder, child, base.value, value);
    return (lw_pinned){value, false};
}

lw_pinned
lw_pin_child(lw_recorder *recorder, const lw_node *parent, const lw_node *child, lw_pinned base)
{
    switch (child->access) {
    case LW_ACCESS_ATTRIBUTE:
        return pin_attribute(recorder, parent, child, base);
    case LW_ACCESS_INDEX:
        return pin_item(recorder, parent, base, child->index);
    case LW_ACCESS_KEY:
        if (PyDict_Check(base.value)) {
            lw_note_class_of(recorder, parent, base);
            return pin_in_dict(recorder, parent, child, base.value, base.value);
        }
        if (PyLong_CheckExact(child->key)) {
            Py_ssize_t index = PyLong_AsSsize_t(child->key);
            if (index == -1 && PyErr_Occurred()) {
                PyErr_Clear();
                return not_pinned;
            }
            return pin_item(recorder, parent, base, index);
        }
        return not_pinned;
    case LW_ACCESS_NTH_KEY:
    case LW_ACCESS_NTH_VALUE:
        return pin_nth(recorder, parent, child, base);
    case LW_ACCESS_TYPE:
        lw_note_class(recorder, parent, base.value);
        return (lw_pinned){(PyObject *)Py_TYPE(base.value), false};
    case LW_ACCESS_METHOD_FUNCTION:
        if (!PyMethod_Check(base.value)) {
            return not_pinned;
        }
        lw_note_class_of(recorder, parent, base);
        return pin_word(recorder, parent, &((PyMethodObject *)base.value)->im_func);
    case LW_ACCESS_CLASS_ATTRIBUTE:
        return pin_in_class(recorder, parent, child, base);
    case LW_ACCESS_SIZE: /* a new object each time, which nothing would hold */
    case LW_ACCESS_STRIDE:
        return not_pinned;
    default:
        return pin_of_function(recorder, parent, child, base);
    }
}

/* From the frame */

/* Arguments that are made for each call are walked; a module, a function or another long-lived object is pinned. */
static bool
is_lasting(const lw_node *node, PyObject *value)
{
    return node->first_child >= 0 && !PyTuple_CheckExact(value) && !PyDict_CheckExact(value) && !PyList_CheckExact(value);
}

lw_pinned
lw_pin_root(lw_recorder *recorder, const lw_node *node)
{
    const lw_scope *scope = recorder->scope;
    lw_stamps *set = recorder->set;
    PyObject *dict;
    switch (node->access) {
    case LW_ACCESS_ARGUMENT: {
        PyObject *value = scope->slots[node->index];
        if (!is_lasting(node, value)) {
            return not_pinned;
        }
        lw_pin pin = {node->index, value};
        PUSH(recorder, pins, pin);
        return (lw_pinned){value, false};
    }
    case LW_ACCESS_CELL:
    case LW_ACCESS_CELL_OBJECT: {
        lw_pin pin = {node->index, scope->cells[node->index]};
        PUSH(recorder, cells, pin);
        return node->access == LW_ACCESS_CELL ? pin_contents(recorder, node, pin.value) : (lw_pinned){pin.value, false};
    }
    case LW_ACCESS_GLOBAL:
        dict = set->globals = scope->globals;
        if (node->key == Py_None) {
            return (lw_pinned){dict, false};
        }
        break;
    case LW_ACCESS_BUILTIN:
        dict = set->builtins = scope->builtins;
        break;
    default:
        dict = set->modules = PyImport_GetModuleDict();
    }
    if (dict == NULL || !PyDict_Check(dict)) {
        return not_pinned;
    }
    PyObject *value = find_in_dict(dict, node->key);
    if (value == NULL) {
        return not_pinned;
    }
    bool loose = recorder->tree->loose_roots[node->access] || !lw_look_up_is_plain(dict, node->key);
    const void *word = loose ? NULL : lw_dict_settle(dict);
    if (word == NULL) {
        lw_note_reading(recorder, node, NULL, value);
        return (lw_pinned){value, false};
    }
    lw_note_word(recorder, node, LW_BLAME_DICT, word);
    return (lw_pinned){value, true};
}
