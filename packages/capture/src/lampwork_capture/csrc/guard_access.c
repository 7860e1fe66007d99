/* Reading attributes and items as Python would, but only where that runs no code of the user's.
 *
 * The look-up of `object.name` is done by hand: type, data descriptors written in C, instance dictionary, the tables of
 * nn.Module. Invariant: a property, a `__getattr__` or a `__getitem__` written in Python is never called; reading it fails.
 */
#include "guard.h"
#include <string.h>

static PyObject *str_getattribute, *str_getattr, *str_len, *str_getitem, *str_parameters, *str_buffers, *str_modules;
static PyObject *object_getattribute;  /* object.__getattribute__ */
static PyObject *type_getattribute;    /* type.__getattribute__ */
static PyObject *module_getattr = NULL; /* torch.nn.Module.__getattr__ */

static PyObject *
instance_dict(PyObject *object)
{
    PyObject **place = lw_dict_place(object);
    return place != NULL ? *place : NULL;
}

/* Whether `object.name` is decided by `object.__getattribute__`, and what comes after it. */
bool
lw_plain_getattribute(PyTypeObject *type)
{
    return type->tp_getattro == PyObject_GenericGetAttr || type->tp_getattro == PyModule_Type.tp_getattro
           || _PyType_Lookup(type, str_getattribute) == object_getattribute;
}

static bool
is_c_descriptor(PyObject *descriptor)
{
    PyTypeObject *type = Py_TYPE(descriptor);
    return type == &PyGetSetDescr_Type || type == &PyMemberDescr_Type || type == &PyMethodDescr_Type
           || type == &PyWrapperDescr_Type || type == &PyFunction_Type || type == &PyClassMethodDescr_Type;
}

/* Bind a descriptor found on a type; NULL where binding runs user code. */
static PyObject *
bind(PyObject *descriptor, PyObject *object, PyTypeObject *type)
{
    descrgetfunc get = Py_TYPE(descriptor)->tp_descr_get;
    if (get == NULL) {
        return Py_NewRef(descriptor);
    }
    if (!is_c_descriptor(descriptor)) {
        if (Py_IS_TYPE(descriptor, &PyStaticMethod_Type)) {
            return get(descriptor, object, (PyObject *)type);
        }
        if (!Py_IS_TYPE(descriptor, &PyClassMethod_Type)) {
            return NULL;
        }
        PyObject *function = PyObject_GetAttrString(descriptor, "__func__");
        bool plain = function != NULL && PyFunction_Check(function);
        Py_XDECREF(function);
        if (!plain) {
            return NULL;
        }
    }
    return get(descriptor, object, (PyObject *)type);
}

bool
lw_has_module_getattr(PyTypeObject *type)
{
    return module_getattr != NULL && _PyType_Lookup(type, str_getattr) == module_getattr;
}

PyObject *
lw_module_table(PyObject *namespace, int i)
{
    PyObject *names[] = {str_parameters, str_buffers, str_modules};
    PyObject *table = PyDict_GetItemWithError(namespace, names[i]);
    return table != NULL && PyDict_Check(table) ? table : NULL;
}

static void
find_tables(lw_object_view *view, PyTypeObject *type)
{
    view->has_tables = true;
    if (view->dict == NULL || !lw_has_module_getattr(type)) {
        return;
    }
    for (int i = 0; i < LW_TABLES; i++) {
        PyObject *table = lw_module_table(view->dict, i);
        if (table != NULL && PyDict_GET_SIZE(table) > 0) {
            view->tables[i] = table;
        }
    }
}

/* What nn.Module.__getattr__ would find. */
static PyObject *
module_member(lw_object_view *view, PyTypeObject *type, PyObject *name)
{
    if (!view->has_tables) {
        find_tables(view, type);
    }
    for (int i = 0; i < LW_TABLES; i++) {
        PyObject *value = view->tables[i] != NULL ? PyDict_GetItemWithError(view->tables[i], name) : NULL;
        if (value != NULL) {
            view->from_dict = true;
            return Py_NewRef(value);
        }
    }
    return NULL;
}

bool
lw_read_raw_from_class(PyObject *found)
{
    PyTypeObject *kind = Py_TYPE(found);
    return kind->tp_descr_get == NULL || kind == &PyFunction_Type || kind == &PyGetSetDescr_Type
           || kind == &PyMemberDescr_Type || kind == &PyMethodDescr_Type || kind == &PyWrapperDescr_Type
           || kind == &PyProperty_Type; /* what their __get__(None, class) gives */
}

static PyObject *
read_class_attribute(PyTypeObject *class, PyObject *name)
{
    PyTypeObject *meta = Py_TYPE(class);
    if (meta->tp_getattro != PyType_Type.tp_getattro && _PyType_Lookup(meta, str_getattribute) != type_getattribute) {
        return NULL; /* a `__getattr__` alone is asked last, for what is not found here */
    }
    PyObject *of_meta = _PyType_Lookup(meta, name);
    if (of_meta != NULL && Py_TYPE(of_meta)->tp_descr_set != NULL) {
        return is_c_descriptor(of_meta) ? bind(of_meta, (PyObject *)class, meta) : NULL;
    }
    PyObject *found = _PyType_Lookup(class, name);
    if (found != NULL) {
        return lw_read_raw_from_class(found) ? Py_NewRef(found) : bind(found, NULL, class);
    }
    return of_meta != NULL ? bind(of_meta, (PyObject *)class, meta) : NULL;
}

static void
open_view(lw_object_view *view, PyObject *object)
{
    view->ready = true;
    view->is_instance = !PyType_Check(object);
    view->plain = view->is_instance && lw_plain_getattribute(Py_TYPE(object));
    view->dict = view->plain ? instance_dict(object) : NULL;
}

static PyObject *read_attribute(lw_object_view *view, PyObject *object, PyObject *name);

/* Attributes of instances whose type has a `__getattribute__` of its own; NULL where only that could tell. */
static PyObject *
read_special(PyObject *object, PyObject *name)
{
    if (PyMethod_Check(object)) { /* hands on to its function whatever it does not have itself */
        if (PyUnicode_CompareWithASCIIString(name, "__self__") == 0) {
            return Py_NewRef(PyMethod_GET_SELF(object));
        }
        lw_object_view view = {0};
        return read_attribute(&view, PyMethod_GET_FUNCTION(object), name);
    }
    /* A source that says `__dict__` means the namespace of the instance, whatever `__getattribute__` shows. */
    return PyUnicode_CompareWithASCIIString(name, "__dict__") == 0 ? Py_XNewRef(instance_dict(object)) : NULL;
}

static PyObject *
read_attribute(lw_object_view *view, PyObject *object, PyObject *name)
{
    if (!view->ready) {
        open_view(view, object);
    }
    if (!view->plain) {
        return view->is_instance ? read_special(object, name) : read_class_attribute((PyTypeObject *)object, name);
    }
    PyTypeObject *type = Py_TYPE(object);
    PyObject *found = _PyType_Lookup(type, name);
    if (found != NULL && Py_TYPE(found)->tp_descr_set != NULL) {
        if (!is_c_descriptor(found)) {
            return NULL;
        }
        PyObject *value = bind(found, object, type);
        view->ready = view->has_tables = false; /* reading may have made the dictionary */
        memset(view->tables, 0, sizeof(view->tables));
        return value;
    }
    if (view->dict != NULL) {
        PyObject *value = PyDict_GetItemWithError(view->dict, name);
        if (value != NULL) {
            view->from_dict = true;
            return Py_NewRef(value);
        }
    }
    return found != NULL ? bind(found, object, type) : module_member(view, type, name);
}

PyObject *
lw_read_attribute(lw_object_view *view, PyObject *object, PyObject *name)
{
    view->from_dict = false;
    PyObject *value = read_attribute(view, object, name);
    if (value == NULL) {
        PyErr_Clear();
    }
    return value;
}

bool
lw_attributes_unchanged(const lw_attribute_cache *cache, PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    if (cache->type != type || lw_type_version(type) != cache->type_version) {
        return false;
    }
    PyObject *dict = instance_dict(object);
    if (dict == NULL || lw_dict_version(dict) != cache->dict_version) {
        return false;
    }
    for (int i = 0; i < LW_TABLES; i++) {
        if (cache->tables[i] != NULL && lw_dict_version(cache->tables[i]) != cache->table_versions[i]) {
            return false;
        }
    }
    return true;
}

void
lw_attributes_remember(lw_attribute_cache *cache, PyObject *object, lw_object_view *view)
{
    PyTypeObject *type = Py_TYPE(object);
    cache->type = NULL;
    if (!view->ready) {
        open_view(view, object);
    }
    cache->type_version = lw_type_version(type);
    if (!view->plain || view->dict == NULL || cache->type_version == 0) {
        return;
    }
    cache->dict_version = lw_dict_version(view->dict);
    if (cache->dict_version == 0) {
        return;
    }
    for (int i = 0; i < LW_TABLES; i++) { /* empty ones too: a name may be added to them */
        cache->tables[i] = lw_module_table(view->dict, i);
        cache->table_versions[i] = cache->tables[i] != NULL ? lw_dict_version(cache->tables[i]) : 0;
        if (cache->tables[i] != NULL && cache->table_versions[i] == 0) {
            return;
        }
    }
    cache->type = type;
}

int
lw_has_attribute(PyObject *object, PyObject *name)
{
    PyTypeObject *type = Py_TYPE(object);
    if (PyType_Check(object)) {
        if (type->tp_getattro != PyType_Type.tp_getattro) {
            return -1;
        }
        return _PyType_Lookup((PyTypeObject *)object, name) != NULL || _PyType_Lookup(type, name) != NULL;
    }
    if (PyModule_Check(object)) {
        PyObject *dict = PyModule_GetDict(object);
        if (PyDict_Contains(dict, name) == 1 || _PyType_Lookup(type, name) != NULL) {
            return 1;
        }
        return PyDict_Contains(dict, str_getattr) == 1 ? -1 : 0;
    }
    if (!lw_plain_getattribute(type)) {
        return -1;
    }
    PyObject *found = _PyType_Lookup(type, name);
    if (found != NULL) {
        PyTypeObject *kind = Py_TYPE(found);
        if (kind == &PyGetSetDescr_Type || kind == &PyMemberDescr_Type) {
            PyObject *value = bind(found, object, type); /* an empty slot has no value */
            Py_XDECREF(value);
            PyErr_Clear();
            return value != NULL;
        }
        if (kind->tp_descr_set != NULL || (kind->tp_descr_get != NULL && !is_c_descriptor(found)
                                           && kind != &PyStaticMethod_Type && kind != &PyClassMethod_Type)) {
            return lw_instance_dict_has(object, name) && kind->tp_descr_set == NULL ? 1 : -1;
        }
        return 1;
    }
    PyObject *dict = instance_dict(object);
    if (dict != NULL && PyDict_Contains(dict, name) == 1) {
        return 1;
    }
    PyErr_Clear();
    PyObject *getattr = _PyType_Lookup(type, str_getattr);
    if (getattr == NULL) {
        return 0;
    }
    if (getattr != module_getattr) {
        return -1;
    }
    lw_object_view view = {.dict = dict};
    PyObject *value = module_member(&view, type, name);
    Py_XDECREF(value);
    return value != NULL;
}

int
lw_instance_dict_has(PyObject *object, PyObject *name)
{
    PyObject *dict = PyModule_Check(object) ? PyModule_GetDict(object) : instance_dict(object);
    if (dict == NULL) {
        return 0;
    }
    int found = PyDict_Contains(dict, name);
    if (found < 0) {
        PyErr_Clear();
    }
    return found == 1;
}

/* Whether `object[...]` is C code: the slot wrapper (or method) of a C type, not overridden by a Python class. */
static bool
getitem_is_c(PyTypeObject *type)
{
    PyObject *method = _PyType_Lookup(type, str_getitem);
    return method != NULL && (Py_IS_TYPE(method, &PyWrapperDescr_Type) || Py_IS_TYPE(method, &PyMethodDescr_Type));
}

PyObject *
lw_read_item(PyObject *object, Py_ssize_t index)
{
    bool list = PyList_Check(object);
    if (!PyList_CheckExact(object) && !PyTuple_CheckExact(object) && !getitem_is_c(Py_TYPE(object))) {
        return NULL;
    }
    if (list || PyTuple_Check(object)) {
        Py_ssize_t n = list ? PyList_GET_SIZE(object) : PyTuple_GET_SIZE(object);
        index = index < 0 ? index + n : index;
        if (index < 0 || index >= n) {
            return NULL;
        }
        return Py_NewRef(list ? PyList_GET_ITEM(object, index) : PyTuple_GET_ITEM(object, index));
    }
    if (!PySequence_Check(object)) {
        return NULL;
    }
    PyObject *value = PySequence_GetItem(object, index);
    PyErr_Clear();
    return value;
}

static PyObject *
dict_get(PyObject *dict, PyObject *key)
{
    PyObject *value = PyDict_GetItemWithError(dict, key);
    if (value == NULL) {
        PyErr_Clear();
        return NULL;
    }
    return Py_NewRef(value);
}

PyObject *
lw_plain_mapping(PyObject *object)
{
    /* CPython exports no way to what a mappingproxy shows; since 3.3 it is its first and only field. */
    struct proxy {
        PyObject_HEAD
        PyObject *mapping;
    };
    if (!Py_IS_TYPE(object, &PyDictProxy_Type)) {
        return object;
    }
    PyObject *mapping = ((struct proxy *)object)->mapping;
    return PyDict_CheckExact(mapping) ? mapping : object;
}

PyObject *
lw_read_key(PyObject *object, PyObject *key)
{
    object = lw_plain_mapping(object);
    if (PyDict_Check(object)) {
        return dict_get(object, key);
    }
    if (PyLong_CheckExact(key) || PyBool_Check(key)) {
        Py_ssize_t index = PyLong_AsSsize_t(key);
        if (index == -1 && PyErr_Occurred()) {
            PyErr_Clear();
            return NULL;
        }
        return lw_read_item(object, index);
    }
    return NULL;
}

Py_ssize_t
lw_length(PyObject *object)
{
    object = lw_plain_mapping(object);
    if (PyDict_Check(object)) {
        return PyDict_GET_SIZE(object);
    }
    if (PyList_Check(object)) {
        return PyList_GET_SIZE(object);
    }
    if (PyTuple_Check(object)) {
        return PyTuple_GET_SIZE(object);
    }
    if (PyAnySet_Check(object)) {
        return PySet_GET_SIZE(object);
    }
    PyTypeObject *type = Py_TYPE(object);
    PyObject *method = _PyType_Lookup(type, str_len);
    if (method == NULL || !Py_IS_TYPE(method, &PyWrapperDescr_Type)) {
        return -1;
    }
    Py_ssize_t n = PyObject_Size(object);
    if (n < 0) {
        PyErr_Clear();
    }
    return n;
}

static PyObject *
native_set_module_getattr(PyObject *module, PyObject *function)
{
    (void)module;
    Py_XSETREF(module_getattr, Py_NewRef(function));
    Py_RETURN_NONE;
}

static PyObject *
native_instance_dict(PyObject *module, PyObject *object)
{
    (void)module;
    PyObject *dict = PyType_Check(object) ? NULL : instance_dict(object);
    return Py_NewRef(dict != NULL ? dict : Py_None);
}

/* A `__new__` that was set and deleted again leaves its mark here, and nowhere else. */
static PyObject *
native_is_made_by_object(PyObject *module, PyObject *class)
{
    (void)module;
    return PyBool_FromLong(PyType_Check(class) && ((PyTypeObject *)class)->tp_new == PyBaseObject_Type.tp_new);
}

static PyMethodDef access_methods[] = {
    {"is_made_by_object", native_is_made_by_object, METH_O,
     "is_made_by_object(cls): whether the interpreter makes its instances by `object.__new__`, with no look-up"},
    {"instance_dict", native_instance_dict, METH_O,
     "instance_dict(object): the dictionary that holds its attributes; None where there is none yet"},
    {"set_module_getattr", native_set_module_getattr, METH_O,
     "set_module_getattr(torch.nn.Module.__getattr__): what reads the tables of a module"},
    {NULL},
};

int
lw_access_setup(PyObject *module)
{
    str_getattribute = PyUnicode_InternFromString("__getattribute__");
    str_getattr = PyUnicode_InternFromString("__getattr__");
    str_getitem = PyUnicode_InternFromString("__getitem__");
    str_len = PyUnicode_InternFromString("__len__");
    str_parameters = PyUnicode_InternFromString("_parameters");
    str_buffers = PyUnicode_InternFromString("_buffers");
    str_modules = PyUnicode_InternFromString("_modules");
    if (!str_getattribute || !str_getattr || !str_len || !str_getitem || !str_parameters || !str_buffers || !str_modules) {
        return -1;
    }
    object_getattribute = _PyType_Lookup(&PyBaseObject_Type, str_getattribute); /* immortal with its type */
    type_getattribute = _PyType_Lookup(&PyType_Type, str_getattribute);
    return PyModule_AddFunctions(module, access_methods);
}
