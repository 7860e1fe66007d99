/* Reading attributes and items as Python would, but only where that runs no code of the user's.
 *
 * The look-up of `object.name` is done by hand: type, data descriptors written in C, instance dictionary, the tables of
 * nn.Module. Invariants: a property, a `__getattr__` or a `__getitem__` written in Python is never called; reading it fails.
 * The caller holds the object; what is used after a look-up in a dictionary of the user's is held here (guard_dict.c).
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
    if (!lw_type_is_plain(type)) {
        return false;
    }
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

static PyObject *
table_name(int i)
{
    PyObject *names[LW_TABLES] = {str_parameters, str_buffers, str_modules};
    return names[i];
}

PyObject *
lw_module_table(PyObject *namespace, int i)
{
    PyObject *table = lw_dict_peek(namespace, table_name(i));
    return table != NULL && PyDict_Check(table) ? table : NULL;
}

bool
lw_module_table_is_plain(PyObject *namespace, int i)
{
    return lw_look_up_is_plain(namespace, table_name(i));
}

/* Views */

void
lw_close_view(lw_object_view *view)
{
    lw_release(view->dict, view->calm);
    for (int i = 0; i < LW_TABLES; i++) {
        lw_release(view->tables[i], view->calm);
    }
    *view = (lw_object_view){0};
}

static void
open_view(lw_object_view *view, PyObject *object)
{
    lw_close_view(view);
    view->calm = lw_disturbances;
    view->ready = true;
    view->is_instance = !PyType_Check(object);
    view->plain = view->is_instance && lw_plain_getattribute(Py_TYPE(object));
    view->dict = view->plain ? Py_XNewRef(instance_dict(object)) : NULL;
}

static void
find_tables(lw_object_view *view, PyTypeObject *type)
{
    view->has_tables = true;
    if (view->dict == NULL || !lw_has_module_getattr(type)) {
        return;
    }
    for (int i = 0; i < LW_TABLES && !PyErr_Occurred(); i++) {
        PyObject *table = lw_dict_get(view->dict, table_name(i));
        if (table != NULL && PyDict_Check(table) && PyDict_GET_SIZE(table) > 0) {
            view->tables[i] = table;
        }
        else {
            lw_release(table, view->calm);
        }
    }
}

/* What nn.Module.__getattr__ would find; NULL also with an exception. */
static PyObject *
module_member(lw_object_view *view, PyTypeObject *type, PyObject *name)
{
    if (!view->has_tables) {
        find_tables(view, type);
    }
    for (int i = 0; i < LW_TABLES && !PyErr_Occurred(); i++) {
        PyObject *value = view->tables[i] != NULL ? lw_dict_get(view->tables[i], name) : NULL;
        if (value != NULL) {
            view->from_dict = true;
            return value;
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
    if (!lw_type_is_plain(meta) || !lw_type_is_plain(class)) {
        return NULL;
    }
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
        PyObject *value = read_attribute(&view, PyMethod_GET_FUNCTION(object), name);
        lw_close_view(&view);
        return value;
    }
    /* A source that says `__dict__` means the namespace of the instance, whatever `__getattribute__` shows. */
    return PyUnicode_CompareWithASCIIString(name, "__dict__") == 0 ? Py_XNewRef(instance_dict(object)) : NULL;
}

/* Of an instance whose class has the type and `found` in it, both held, as is what the view shows. */
static PyObject *
read_of_instance(lw_object_view *view, PyObject *object, PyTypeObject *type, PyObject *found, PyObject *name)
{
    if (found != NULL && Py_TYPE(found)->tp_descr_set != NULL) {
        PyObject *value = is_c_descriptor(found) ? bind(found, object, type) : NULL;
        view->ready = false; /* reading may have made the dictionary */
        return value;
    }
    PyObject *value = view->dict != NULL ? lw_dict_get(view->dict, name) : NULL;
    if (value != NULL) {
        view->from_dict = true;
        return value;
    }
    if (view->dict != NULL && PyErr_Occurred()) {
        return NULL;
    }
    return found != NULL ? bind(found, object, type) : module_member(view, type, name);
}

static PyObject *
read_attribute(lw_object_view *view, PyObject *object, PyObject *name)
{
    if (!view->ready || view->calm != lw_disturbances) {
        open_view(view, object);
    }
    if (!view->plain) {
        return view->is_instance ? read_special(object, name) : read_class_attribute((PyTypeObject *)object, name);
    }
    unsigned long long calm = lw_disturbances;
    PyTypeObject *type = (PyTypeObject *)Py_NewRef(Py_TYPE(object));
    PyObject *found = Py_XNewRef(_PyType_Lookup(type, name));
    PyObject *value = read_of_instance(view, object, type, found, name);
    lw_release(found, calm);
    lw_release((PyObject *)type, calm);
    return value;
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
    if (!view->plain || view->dict == NULL || cache->type_version == 0 || !lw_dict_is_plain(view->dict)) {
        return;
    }
    cache->dict_version = lw_dict_version(view->dict);
    if (cache->dict_version == 0) {
        return;
    }
    for (int i = 0; i < LW_TABLES; i++) { /* empty ones too: a name may be added to them */
        cache->tables[i] = lw_module_table(view->dict, i);
        cache->table_versions[i] = cache->tables[i] != NULL ? lw_dict_version(cache->tables[i]) : 0;
        if (cache->tables[i] != NULL && (cache->table_versions[i] == 0 || !lw_dict_is_plain(cache->tables[i]))) {
            return;
        }
    }
    cache->type = type;
}

static int
class_has(PyTypeObject *class, PyObject *name)
{
    PyTypeObject *meta = Py_TYPE(class);
    if (meta->tp_getattro != PyType_Type.tp_getattro || !lw_type_is_plain(meta) || !lw_type_is_plain(class)) {
        return -1;
    }
    return _PyType_Lookup(class, name) != NULL || _PyType_Lookup(meta, name) != NULL;
}

static int
python_module_has(PyObject *module, PyObject *name)
{
    PyTypeObject *type = Py_TYPE(module);
    PyObject *dict = PyModule_GetDict(module);
    if (!lw_type_is_plain(type)) {
        return -1;
    }
    int found = _PyType_Lookup(type, name) != NULL ? 1 : lw_dict_has(dict, name);
    if (found != 0) {
        return found;
    }
    return lw_dict_has(dict, str_getattr) == 0 ? 0 : -1;
}

/* Whether there is something that was found in the class. */
static int
found_gives(PyObject *object, PyTypeObject *type, PyObject *found, PyObject *name)
{
    PyTypeObject *kind = Py_TYPE(found);
    if (kind == &PyGetSetDescr_Type || kind == &PyMemberDescr_Type) {
        PyObject *value = bind(found, object, type); /* an empty slot has no value */
        Py_XDECREF(value);
        return value != NULL;
    }
    bool own = kind->tp_descr_get != NULL && !is_c_descriptor(found) && kind != &PyStaticMethod_Type && kind != &PyClassMethod_Type;
    if (kind->tp_descr_set == NULL && !own) {
        return 1;
    }
    return kind->tp_descr_set == NULL && lw_instance_dict_has(object, name) == 1 ? 1 : -1;
}

/* Whether it is in the namespace of an instance, or among what its `__getattr__` finds. */
static int
instance_has(PyObject *object, PyTypeObject *type, PyObject *name)
{
    lw_object_view view = {0};
    open_view(&view, object);
    int found = view.dict != NULL ? lw_dict_has(view.dict, name) : 0;
    PyObject *getattr = found == 0 ? _PyType_Lookup(type, str_getattr) : NULL;
    if (getattr != NULL && getattr != module_getattr) {
        found = -1;
    }
    else if (getattr != NULL) {
        PyObject *value = module_member(&view, type, name);
        found = value != NULL ? 1 : PyErr_Occurred() ? -1 : 0;
        lw_release(value, view.calm);
    }
    lw_close_view(&view);
    return found;
}

int
lw_has_attribute(PyObject *object, PyObject *name)
{
    if (PyType_Check(object)) {
        return class_has((PyTypeObject *)object, name);
    }
    unsigned long long calm = lw_disturbances;
    PyTypeObject *type = (PyTypeObject *)Py_NewRef(Py_TYPE(object));
    int answer = -1;
    if (PyModule_Check(object)) {
        answer = python_module_has(object, name);
    }
    else if (lw_plain_getattribute(type)) {
        PyObject *found = Py_XNewRef(_PyType_Lookup(type, name));
        answer = found != NULL ? found_gives(object, type, found, name) : instance_has(object, type, name);
        lw_release(found, calm);
    }
    lw_release((PyObject *)type, calm);
    PyErr_Clear();
    return answer;
}

int
lw_instance_dict_has(PyObject *object, PyObject *name)
{
    unsigned long long calm = lw_disturbances;
    PyObject *dict = PyModule_Check(object) ? PyModule_GetDict(object) : instance_dict(object);
    dict = PyType_Check(object) ? lw_type_namespace((PyTypeObject *)object) : Py_XNewRef(dict);
    int found = dict != NULL ? lw_dict_has(dict, name) : 0;
    lw_release(dict, calm);
    PyErr_Clear();
    return found;
}

/* Whether `object[...]` is C code: the slot wrapper (or method) of a C type, not overridden by a Python class. */
static bool
getitem_is_c(PyTypeObject *type)
{
    PyObject *method = lw_type_is_plain(type) ? _PyType_Lookup(type, str_getitem) : NULL;
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
        PyObject *value = lw_dict_get(object, key);
        if (value == NULL) {
            PyErr_Clear();
        }
        return value;
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
    PyObject *method = lw_type_is_plain(type) ? _PyType_Lookup(type, str_len) : NULL;
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

static PyObject *
native_is_plain_class(PyObject *module, PyObject *class)
{
    (void)module;
    return PyBool_FromLong(PyType_Check(class) && lw_type_is_plain((PyTypeObject *)class));
}

static PyMethodDef access_methods[] = {
    {"is_plain_class", native_is_plain_class, METH_O,
     "is_plain_class(cls): whether looking a name up in the namespaces of its MRO runs no code of other keys, ever"},
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
