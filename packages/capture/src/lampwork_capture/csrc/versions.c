/* What the interpreters keep in types and dictionaries: version tags, numbers that tell whether one is as it was, and the
 * kind of keys.
 *
 * Invariant: equal numbers, other than 0, mean the same type or dictionary in the same state; 0 means that changes would
 * go unseen, so whatever was read must be read again.
 */
#include "guard.h"
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

unsigned int
lw_type_version(PyTypeObject *type)
{
#if PY_VERSION_HEX >= 0x030D0000
    return type->tp_version_tag; /* 0 after a change; Py_TPFLAGS_VALID_VERSION_TAG is no longer kept */
#else
    return PyType_HasFeature(type, Py_TPFLAGS_VALID_VERSION_TAG) ? type->tp_version_tag : 0;
#endif
}

void
lw_type_settle(PyTypeObject *type)
{
    static PyObject *name = NULL;
    if (name == NULL) {
        name = PyUnicode_InternFromString("__class__");
    }
    if (name == NULL) {
        PyErr_Clear();
    }
    else {
        (void)_PyType_Lookup(type, name);
    }
}

PyObject *
lw_type_namespace(PyTypeObject *type)
{
#if PY_VERSION_HEX >= 0x030C0000
    return PyType_GetDict(type); /* of a built-in type each interpreter has its own */
#else
    return Py_XNewRef(type->tp_dict);
#endif
}

#if PY_VERSION_HEX >= 0x030B0000

int
lw_versions_setup(void)
{
    return 0;
}

bool
lw_dict_has_text_keys(PyObject *dict)
{
    return ((PyDictObject *)dict)->ma_keys->dk_kind != DICT_KEYS_GENERAL;
}

#else /* 3.10 keeps the look-up function instead, in a struct that no header shows */

struct keys_3_10 {
    Py_ssize_t references, size;
    void *look_up;
};

static void *look_up_any = NULL; /* of a dictionary that has other keys than text */

static void *
look_up_of(PyObject *dict)
{
    return ((struct keys_3_10 *)((PyDictObject *)dict)->ma_keys)->look_up;
}

int
lw_versions_setup(void)
{
    PyObject *dict = PyDict_New();
    int failed = dict == NULL || PyDict_SetItem(dict, Py_None, Py_None) < 0;
    look_up_any = failed ? NULL : look_up_of(dict);
    Py_XDECREF(dict);
    return failed ? -1 : 0;
}

bool
lw_dict_has_text_keys(PyObject *dict)
{
    return look_up_of(dict) != look_up_any;
}

#endif

/* The `__dict__` of an object that keeps its values inline: a store to an attribute writes there, and neither changes the
 * version of the dictionary nor tells its watchers (3.13.0). */
static bool
is_embedded(PyObject *dict)
{
#if PY_VERSION_HEX >= 0x030D0000
    const PyDictValues *values = ((PyDictObject *)dict)->ma_values;
    return values != NULL && values->embedded;
#else
    (void)dict;
    return false;
#endif
}

const void *
lw_dict_version_word(PyObject *dict)
{
    if (is_embedded(dict)) {
        return NULL;
    }
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    return &((PyDictObject *)dict)->ma_version_tag;
#pragma GCC diagnostic pop
}

uint64_t
lw_dict_version(PyObject *dict)
{
    const void *word = lw_dict_version_word(dict);
    return word != NULL ? lw_load_word(word) : 0;
}

/* Moves the values of such an object out of it, to stay outside, by taking a key off again: it still has text for keys. */
static void
move_values_out(PyObject *dict)
{
    static PyObject *key = NULL, *take_last = NULL;
    if (key == NULL || take_last == NULL) {
        key = PyUnicode_InternFromString("<key that lampwork takes off at once>");
        take_last = PyObject_GetAttrString((PyObject *)&PyDict_Type, "popitem");
    }
    if (key != NULL && take_last != NULL && PyDict_Contains(dict, key) == 0 && PyDict_SetItem(dict, key, Py_None) == 0) {
        PyObject *item = PyObject_CallOneArg(take_last, dict);
        if (item == NULL) { /* memory is short */
            PyErr_Clear();
            PyDict_DelItem(dict, key);
        }
        Py_XDECREF(item);
    }
    PyErr_Clear();
}

const void *
lw_dict_settle(PyObject *dict)
{
    if (is_embedded(dict)) {
        move_values_out(dict);
    }
    return lw_dict_version_word(dict);
}

PyObject **
lw_dict_place(PyObject *object)
{
    PyObject **place = _PyObject_GetDictPtr(object);
    if (place == NULL || *place == NULL) {
        PyErr_Clear();
    }
    return place;
}
