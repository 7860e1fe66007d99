/* Comparing constants by type and value, without calling an `__eq__` of the user's.
 *
 * Invariant: 1, 1.0 and True differ; 0.0 and -0.0 differ; a nan equals the same nan.
 */
#include "guard.h"
#include <string.h>

static bool
is_atom(PyTypeObject *type)
{
    return type == &PyLong_Type || type == &PyFloat_Type || type == &PyUnicode_Type || type == &PyBytes_Type
           || type == &PyComplex_Type;
}

/* torch.device: an immutable C type whose comparison is C code. Enum members, dtypes, types and code objects are compared by
 * identity. */
bool
lw_is_device(PyTypeObject *type)
{
    return (type->tp_flags & Py_TPFLAGS_HEAPTYPE) == 0 && strcmp(type->tp_name, "torch.device") == 0;
}

bool
lw_is_constant(PyObject *value)
{
    if (PyTuple_Check(value)) {
        for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(value); i++) {
            if (!lw_is_constant(PyTuple_GET_ITEM(value, i))) {
                return false;
            }
        }
        return true;
    }
    if (PyFrozenSet_CheckExact(value)) {
        PyObject *items = PySequence_Tuple(value);
        bool constant = items != NULL && lw_is_constant(items);
        Py_XDECREF(items);
        PyErr_Clear();
        return constant;
    }
    if (PySlice_Check(value)) {
        PySliceObject *slice = (PySliceObject *)value;
        return lw_is_constant(slice->start) && lw_is_constant(slice->stop) && lw_is_constant(slice->step);
    }
    return true; /* compared by identity where nothing better is known */
}

static bool
same_bits(double a, double b)
{
    return memcmp(&a, &b, sizeof(double)) == 0;
}

static bool
same_by_c_comparison(PyObject *value, PyObject *expected)
{
    PyObject *result = PyObject_RichCompare(value, expected, Py_EQ);
    bool same = result == Py_True;
    Py_XDECREF(result);
    if (result == NULL) {
        PyErr_Clear();
    }
    return same;
}

static bool
same_sets(PyObject *value, PyObject *expected)
{
    if (PySet_GET_SIZE(value) != PySet_GET_SIZE(expected)) {
        return false;
    }
    PyObject *items = PySequence_Tuple(value);
    PyObject *wanted = PySequence_Tuple(expected);
    bool same = items != NULL && wanted != NULL;
    for (Py_ssize_t i = 0; same && i < PyTuple_GET_SIZE(wanted); i++) {
        bool found = false;
        for (Py_ssize_t j = 0; !found && j < PyTuple_GET_SIZE(items); j++) {
            found = lw_same_constant(PyTuple_GET_ITEM(items, j), PyTuple_GET_ITEM(wanted, i));
        }
        same = found;
    }
    Py_XDECREF(items);
    Py_XDECREF(wanted);
    PyErr_Clear();
    return same;
}

bool
lw_same_constant(PyObject *value, PyObject *expected)
{
    PyTypeObject *type = Py_TYPE(expected);
    if (Py_TYPE(value) != type) {
        return false;
    }
    if (value == expected) {
        return true;
    }
    if (type == &PyLong_Type) {
        return same_by_c_comparison(value, expected);
    }
    if (type == &PyUnicode_Type) {
        return PyUnicode_GET_LENGTH(value) == PyUnicode_GET_LENGTH(expected) && PyUnicode_Compare(value, expected) == 0;
    }
    if (type == &PyFloat_Type) {
        return same_bits(PyFloat_AS_DOUBLE(value), PyFloat_AS_DOUBLE(expected));
    }
    if (type == &PyComplex_Type) {
        Py_complex a = ((PyComplexObject *)value)->cval, b = ((PyComplexObject *)expected)->cval;
        return same_bits(a.real, b.real) && same_bits(a.imag, b.imag);
    }
    if (PyTuple_Check(expected)) {
        if (PyTuple_GET_SIZE(value) != PyTuple_GET_SIZE(expected)) {
            return false;
        }
        for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(expected); i++) {
            if (!lw_same_constant(PyTuple_GET_ITEM(value, i), PyTuple_GET_ITEM(expected, i))) {
                return false;
            }
        }
        return true;
    }
    if (type == &PyFrozenSet_Type) {
        return same_sets(value, expected);
    }
    if (type == &PySlice_Type) {
        PySliceObject *a = (PySliceObject *)value, *b = (PySliceObject *)expected;
        return lw_same_constant(a->start, b->start) && lw_same_constant(a->stop, b->stop)
               && lw_same_constant(a->step, b->step);
    }
    if (type == &PyCode_Type || PyType_Check(expected) || PyFunction_Check(expected) || PyCFunction_Check(expected)) {
        return false;
    }
    if (is_atom(type) || type == &PyRange_Type || lw_is_device(type)) {
        return same_by_c_comparison(value, expected);
    }
    return false; /* other objects are only ever the same by identity */
}
