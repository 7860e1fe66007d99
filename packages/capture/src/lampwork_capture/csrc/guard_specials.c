/* The check that a class has the special methods that it had: the same names, each with the same kind of object behind it.
 *
 * The names are those that the interpreter looks up on the class of an object (guards/specials.py). Invariants: nothing of
 * the program runs; a state of the class that has held is known again by its version, with no look-up.
 */
#include "guard.h"

struct lw_specials {
    unsigned int version; /* of the class that had them when that was last looked up; 0: none */
    Py_ssize_t n;
    PyObject *names;      /* tuple; borrowed */
    PyObject *expected[]; /* by name: NULL for none, a type of what is there, or the very object; borrowed */
};

lw_specials *
lw_specials_compile(PyObject *names, PyObject *expected)
{
    if (!PyTuple_Check(names) || !PyTuple_Check(expected) || PyTuple_GET_SIZE(names) != PyTuple_GET_SIZE(expected)) {
        PyErr_SetString(PyExc_TypeError, "special methods: two tuples of one length");
        return NULL;
    }
    Py_ssize_t n = PyTuple_GET_SIZE(names);
    lw_specials *specials = PyMem_Calloc(1, sizeof(lw_specials) + (size_t)n * sizeof(PyObject *));
    if (specials == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    specials->n = n;
    specials->names = names;
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *item = PyTuple_GET_ITEM(expected, i);
        specials->expected[i] = item != Py_None ? item : NULL;
    }
    return specials;
}

bool
lw_specials_hold(lw_specials *specials, PyObject *class)
{
    if (!PyType_Check(class)) {
        return false;
    }
    PyTypeObject *type = (PyTypeObject *)class;
    if (specials->version != 0 && lw_type_version(type) == specials->version) {
        return true;
    }
    for (Py_ssize_t i = 0; i < specials->n; i++) {
        PyObject *found = _PyType_Lookup(type, PyTuple_GET_ITEM(specials->names, i)), *wanted = specials->expected[i];
        if (found != wanted && (found == NULL || wanted == NULL || (PyObject *)Py_TYPE(found) != wanted)) {
            return false;
        }
    }
    specials->version = lw_type_version(type); /* which the look-ups have made valid, if there are any left */
    return true;
}
