/* Version tags of types and dictionaries: numbers that tell whether one is as it was.
 *
 * Invariant: equal numbers, other than 0, mean the same type or dictionary in the same state; 0 means that changes would
 * go unseen, so whatever was read must be read again.
 */
#include "guard.h"
#include <string.h>
#if PY_VERSION_HEX >= 0x030D0000
#ifndef Py_BUILD_CORE
#define Py_BUILD_CORE 1
#endif
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

const void *
lw_dict_settle(PyObject *dict)
{
    if (is_embedded(dict)) { /* a key that is no string moves the values out of the object, to stay outside */
        PyObject *key = PyObject_CallNoArgs((PyObject *)&PyBaseObject_Type);
        if (key != NULL && PyDict_SetItem(dict, key, Py_None) == 0) {
            PyDict_DelItem(dict, key);
        }
        Py_XDECREF(key);
        PyErr_Clear();
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
