/* The check that a class has the special methods that it had: the same names, each with the same kind of object behind it.
 *
 * The names are those that the interpreter looks up on the class of an object (guards/specials.py). A program may change
 * other attributes of a class all the time, and then the interpreter may give the class no version any more: so what held
 * is remembered for each namespace of the MRO, by its own version, and only one that has changed is read again. Invariants:
 * nothing of the program runs, since namespaces are walked and nothing is looked up in them; a class with keys that are no
 * plain ones never has what it had.
 */
#include "guard.h"

/* A namespace that had the names from those of the one before it up to `end`, in this order. */
typedef struct {
    uint64_t version; /* never two of the same: it stands for the class too; 0: changes would not show */
    int end;
} lw_owner;

struct lw_specials {
    unsigned int version; /* of the class when it was last found to have them; 0: none */
    PyObject *places;     /* dict: number of each name; borrowed */
    int n_names, n_wanted;
    int n_owners, n_marks;
    lw_owner *owners; /* in the order of the MRO; none: not known */
    int *marks;       /* twice the number of each name; odd: it is the first of this name, which counts */
    PyObject *expected[]; /* by number: NULL for none, a type of what is there, or the very object; borrowed */
};

lw_specials *
lw_specials_compile(PyObject *places, PyObject *expected)
{
    if (!PyDict_CheckExact(places) || !PyTuple_Check(expected) || PyDict_GET_SIZE(places) != PyTuple_GET_SIZE(expected)) {
        PyErr_SetString(PyExc_TypeError, "special methods: a dict of numbers and a tuple of one length");
        return NULL;
    }
    int n = (int)PyTuple_GET_SIZE(expected);
    lw_specials *specials = PyMem_Calloc(1, sizeof(lw_specials) + (size_t)n * sizeof(PyObject *));
    if (specials == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    specials->n_names = n;
    specials->places = places;
    for (int i = 0; i < n; i++) {
        PyObject *item = PyTuple_GET_ITEM(expected, i);
        specials->expected[i] = item != Py_None ? item : NULL;
        specials->n_wanted += item != Py_None;
    }
    return specials;
}

void
lw_specials_free(lw_specials *specials)
{
    if (specials != NULL) {
        PyMem_Free(specials->owners);
        PyMem_Free(specials->marks);
        PyMem_Free(specials);
    }
}

/* The number of the next special method in a namespace with plain keys; -1: there are no more. */
static int
next_special(const lw_specials *specials, PyObject *namespace, Py_ssize_t *position, PyObject **value)
{
    PyObject *key;
    while (PyDict_Next(namespace, position, &key, value)) {
        if (!PyUnicode_CheckExact(key) || PyUnicode_GET_LENGTH(key) < 5 || PyUnicode_READ_CHAR(key, 0) != '_'
            || PyUnicode_READ_CHAR(key, 1) != '_') {
            continue;
        }
        PyObject *number = PyDict_GetItemWithError(specials->places, key); /* among exact text: runs nothing */
        if (number != NULL) {
            return (int)PyLong_AsLong(number);
        }
    }
    return -1;
}

static bool
is_wanted(const lw_specials *specials, int number, PyObject *found)
{
    PyObject *wanted = specials->expected[number];
    return wanted != NULL && (found == wanted || (PyObject *)Py_TYPE(found) == wanted);
}

/* Whether a namespace that has changed has the same names as before, and what was expected under those that count. */
static bool
owner_holds(const lw_specials *specials, int owner, PyObject *namespace)
{
    if (!lw_dict_is_plain(namespace)) {
        return false;
    }
    int mark = owner > 0 ? specials->owners[owner - 1].end : 0, end = specials->owners[owner].end, number;
    PyObject *value;
    Py_ssize_t position = 0;
    while ((number = next_special(specials, namespace, &position, &value)) >= 0) {
        if (mark == end || specials->marks[mark] / 2 != number
            || (specials->marks[mark] % 2 == 1 && !is_wanted(specials, number, value))) {
            return false;
        }
        mark++;
    }
    return mark == end;
}

/* Whether the class has what it had, by what is remembered; false also where that does not tell. */
static bool
holds_as_remembered(lw_specials *specials, PyObject *mro)
{
    if (specials->n_owners == 0 || specials->n_owners != PyTuple_GET_SIZE(mro)) {
        return false;
    }
    for (int i = 0; i < specials->n_owners; i++) {
        PyObject *namespace = lw_type_namespace((PyTypeObject *)PyTuple_GET_ITEM(mro, i));
        if (namespace == NULL) {
            return false;
        }
        uint64_t version = lw_dict_version(namespace);
        bool holds = (version != 0 && version == specials->owners[i].version) || owner_holds(specials, i, namespace);
        specials->owners[i].version = holds ? version : 0;
        Py_DECREF(namespace); /* its class holds it */
        if (!holds) {
            return false;
        }
    }
    return true;
}

/* Room for all that these namespaces may have. */
static bool
make_room(lw_specials *specials, PyObject *mro)
{
    size_t n_owners = (size_t)PyTuple_GET_SIZE(mro), n_marks = 0;
    for (size_t i = 0; i < n_owners; i++) {
        PyObject *namespace = lw_type_namespace((PyTypeObject *)PyTuple_GET_ITEM(mro, i));
        if (namespace == NULL) {
            return false;
        }
        n_marks += (size_t)Py_MIN(PyDict_GET_SIZE(namespace), specials->n_names);
        Py_DECREF(namespace); /* its class holds it */
    }
    lw_owner *owners = PyMem_Realloc(specials->owners, n_owners * sizeof(lw_owner));
    specials->owners = owners != NULL ? owners : specials->owners;
    int *marks = PyMem_Realloc(specials->marks, n_marks * sizeof(int));
    specials->marks = marks != NULL ? marks : specials->marks;
    return owners != NULL && marks != NULL;
}

/* Reads a namespace anew; `seen` has the numbers that stand in those before it. */
static bool
read_owner(lw_specials *specials, PyObject *namespace, bool *seen, int *n_seen)
{
    if (!lw_dict_is_plain(namespace)) {
        return false;
    }
    PyObject *value;
    Py_ssize_t position = 0;
    int number;
    while ((number = next_special(specials, namespace, &position, &value)) >= 0) {
        bool counts = !seen[number];
        if (counts && !is_wanted(specials, number, value)) {
            return false;
        }
        specials->marks[specials->n_marks++] = 2 * number + counts;
        seen[number] = true;
        *n_seen += counts;
    }
    specials->owners[specials->n_owners++] = (lw_owner){lw_dict_version(namespace), specials->n_marks};
    return true;
}

/* Reads all of them anew, and remembers what was read if that is what was expected. */
static bool
holds_when_read(lw_specials *specials, PyObject *mro)
{
    specials->n_owners = specials->n_marks = 0;
    bool *seen = PyMem_Calloc((size_t)specials->n_names + 1, sizeof(bool));
    bool hold = seen != NULL && make_room(specials, mro);
    int n_seen = 0;
    for (Py_ssize_t i = 0; hold && i < PyTuple_GET_SIZE(mro); i++) {
        PyObject *namespace = lw_type_namespace((PyTypeObject *)PyTuple_GET_ITEM(mro, i));
        hold = namespace != NULL && read_owner(specials, namespace, seen, &n_seen);
        Py_XDECREF(namespace);
    }
    PyMem_Free(seen);
    hold = hold && n_seen == specials->n_wanted;
    if (!hold) {
        specials->n_owners = 0;
    }
    return hold;
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
    PyObject *mro = type->tp_mro;
    if (mro == NULL || (!holds_as_remembered(specials, mro) && !holds_when_read(specials, mro))) {
        return false;
    }
    specials->version = lw_type_version(type);
    return true;
}
