/* Looking keys up in dictionaries and sets, which may run code of the user's: the `__hash__` and `__eq__` of keys.
 *
 * The lowest layer of the guards' reading. Among plain keys (text, numbers, objects that are the same by identity only)
 * a look-up runs none. It hashes the key that is looked for and compares it with the stored keys of the same hash; going
 * through the keys in their order does neither. A look-up that may run code of the user's is a disturbance: the container
 * is held, the garbage collector is as the user left it, and `lw_disturbances` counts it. Invariant: code of the user's
 * runs amid a guard check in a disturbance only, so what was borrowed from the user's objects is good exactly until that
 * number changes.
 */
#include "guard.h"

unsigned long long lw_disturbances = 0;

/* The collector */

/* By the check that runs in this thread now; false while code of the user's runs. Whoever turned the collector off turns it on
 * again, whatever checks begin and end meanwhile in other threads or inside this one: no state of the process says so. */
static _Thread_local bool collector_paused = false;

bool
lw_pause_collector(void)
{
    bool outer = collector_paused;
    collector_paused = PyGC_Disable() != 0;
    return outer;
}

void
lw_resume_collector(bool outer)
{
    if (collector_paused) {
        PyGC_Enable();
    }
    collector_paused = outer;
}

/* Before and after code of the user's. */
static bool
begin_disturbance(PyObject *container)
{
    bool paused = collector_paused;
    lw_disturbances++;
    lw_resume_collector(false);
    Py_INCREF(container);
    return paused;
}

static void
end_disturbance(PyObject *container, bool paused)
{
    Py_DECREF(container); /* what dies with it may run anything as well */
    if (paused) {
        lw_pause_collector();
    }
}

void
lw_release_disturbed(PyObject *value)
{
    bool last = Py_REFCNT(value) == 1;
    bool paused = last && begin_disturbance(value);
    Py_DECREF(value);
    if (last) {
        end_disturbance(value, paused);
    }
}

/* Plain keys */

/* Whether comparing and hashing a key runs no code of the user's: never, as long as its class is as it is, not at all. */
enum plainness { ODD, PLAIN_NOW, PLAIN };

static enum plainness key_plainness(PyObject *key, bool hashed);

static enum plainness
least(enum plainness a, enum plainness b)
{
    return a < b ? a : b;
}

static enum plainness
items_plainness(PyObject *key, bool hashed)
{
    enum plainness found = PLAIN;
    if (PyTuple_Check(key)) {
        for (Py_ssize_t i = 0; found != ODD && i < PyTuple_GET_SIZE(key); i++) {
            found = least(found, key_plainness(PyTuple_GET_ITEM(key, i), hashed));
        }
        return found;
    }
    const PySetObject *set = (PySetObject *)key;
    for (Py_ssize_t i = 0; found != ODD && i <= set->mask; i++) {
        const setentry *entry = &set->table[i];
        if (entry->key != NULL && entry->hash != -1) { /* -1: removed */
            found = least(found, key_plainness(entry->key, false)); /* its hash stands beside it */
        }
    }
    return found;
}

/* Whether a class compares (and hashes) as one of the simple built-in ones does. */
static bool
is_simple(PyTypeObject *type, bool hashed)
{
    PyTypeObject *const simple[] = {&PyBaseObject_Type, &PyUnicode_Type, &PyLong_Type,   &PyFloat_Type, &PyBytes_Type,
                                    &PyComplex_Type,    &PyBool_Type,    Py_TYPE(Py_None), &PyCFunction_Type};
    bool compares = false, hashes = !hashed;
    for (size_t i = 0; i < Py_ARRAY_LENGTH(simple); i++) {
        compares = compares || type->tp_richcompare == simple[i]->tp_richcompare;
        hashes = hashes || type->tp_hash == simple[i]->tp_hash;
    }
    return compares && hashes;
}

static enum plainness
key_plainness(PyObject *key, bool hashed)
{
    PyTypeObject *type = Py_TYPE(key);
    if (type == &PyUnicode_Type || type == &PyLong_Type) {
        return PLAIN;
    }
    bool may_change = PyType_HasFeature(type, Py_TPFLAGS_HEAPTYPE) || PyModule_Check(key);
    enum plainness of_class = may_change ? PLAIN_NOW : PLAIN;
    PyTypeObject *container = PyTuple_Check(key) ? &PyTuple_Type : PyFrozenSet_Check(key) ? &PyFrozenSet_Type : NULL;
    if (container != NULL) {
        bool own = type->tp_richcompare != container->tp_richcompare || (hashed && type->tp_hash != container->tp_hash);
        return own ? ODD : least(of_class, items_plainness(key, hashed));
    }
    return is_simple(type, hashed) || lw_is_device(type) ? of_class : ODD;
}

static enum plainness
all_keys_plainness(PyObject *dict)
{
    enum plainness found = PLAIN;
    PyObject *key, *value;
    Py_ssize_t position = 0;
    while (found != ODD && PyDict_Next(dict, &position, &key, &value)) {
        found = least(found, key_plainness(key, false)); /* its hash stands beside it */
    }
    return found;
}

bool
lw_dict_is_plain(PyObject *dict)
{
    static uint64_t known[256], known_not[256]; /* versions of dictionaries that were looked through */
    if (lw_dict_has_text_keys(dict)) {
        return true;
    }
    uint64_t version = lw_dict_version(dict);
    size_t place = (version * 0x9E3779B97F4A7C15u) >> 56;
    if (version != 0 && (known[place] == version || known_not[place] == version)) {
        return known[place] == version; /* a key that is plain now only never comes to be plain for ever */
    }
    bool plain = all_keys_plainness(dict) == PLAIN;
    (plain ? known : known_not)[place] = version;
    return plain;
}

bool
lw_type_is_plain(PyTypeObject *type)
{
    static unsigned int known[256]; /* versions of types that were found plain */
    unsigned int version = lw_type_version(type);
    if (version != 0 && known[version % 256] == version) {
        return true;
    }
    PyObject *bases = type->tp_mro;
    for (Py_ssize_t i = 0; bases != NULL && i < PyTuple_GET_SIZE(bases); i++) {
        PyObject *namespace = lw_type_namespace((PyTypeObject *)PyTuple_GET_ITEM(bases, i));
        bool plain = namespace != NULL && lw_dict_is_plain(namespace);
        Py_XDECREF(namespace);
        if (!plain) {
            return false;
        }
    }
    known[version % 256] = version;
    return bases != NULL;
}

/* Looking up */

typedef struct {
    PyObject *key;
    enum plainness found;
} look_up;

/* One that a look-up comes to. It is at its end where it finds the key itself, which is compared with nothing. */
static bool
come_to(PyObject *stored, void *context)
{
    look_up *each = context;
    if (stored == each->key) {
        return false;
    }
    each->found = least(each->found, key_plainness(stored, false));
    return each->found != ODD;
}

static enum plainness
look_up_plainness(PyObject *container, PyObject *key)
{
    bool of_text = !PyAnySet_Check(container) && lw_dict_has_text_keys(container);
    if (of_text && PyUnicode_CheckExact(key)) {
        return PLAIN;
    }
    look_up each = {key, key_plainness(key, true)};
    if (each.found == ODD || of_text) {
        return each.found;
    }
    Py_hash_t hash = PyObject_Hash(key);
    if (hash == -1) { /* then the look-up fails as well */
        PyErr_Clear();
        return each.found;
    }
    (PyAnySet_Check(container) ? lw_visit_set : lw_visit_dict)(container, hash, come_to, &each);
    return each.found;
}

static inline bool
is_quiet(PyObject *container, PyObject *key)
{
    return look_up_plainness(container, key) != ODD;
}

bool
lw_look_up_is_plain(PyObject *dict, PyObject *key)
{
    return look_up_plainness(dict, key) == PLAIN;
}

PyObject *
lw_dict_get(PyObject *dict, PyObject *key)
{
    if (is_quiet(dict, key)) {
        return Py_XNewRef(PyDict_GetItemWithError(dict, key));
    }
    bool paused = begin_disturbance(dict);
    PyObject *value = Py_XNewRef(PyDict_GetItemWithError(dict, key));
    end_disturbance(dict, paused);
    return value;
}

PyObject *
lw_dict_peek(PyObject *dict, PyObject *key)
{
    PyObject *value = is_quiet(dict, key) ? PyDict_GetItemWithError(dict, key) : NULL;
    if (value == NULL) {
        PyErr_Clear();
    }
    return value;
}

int
lw_dict_has(PyObject *dict, PyObject *key)
{
    unsigned long long calm = lw_disturbances;
    PyObject *value = lw_dict_get(dict, key);
    int found = value != NULL ? 1 : PyErr_Occurred() ? -1 : 0;
    lw_release(value, calm);
    return found;
}

int
lw_set_has(PyObject *set, PyObject *key)
{
    if (is_quiet(set, key)) {
        return PySet_Contains(set, key);
    }
    bool paused = begin_disturbance(set);
    int found = PySet_Contains(set, key);
    end_disturbance(set, paused);
    return found;
}

PyObject *
lw_keys_in_order(PyObject *container)
{
    if (!PyAnySet_Check(container)) {
        return lw_ordered_dict_keys(container);
    }
    PyObject *iterator = PySet_Type.tp_iter(container);
    PyObject *keys = iterator != NULL ? PySequence_Tuple(iterator) : NULL;
    Py_XDECREF(iterator);
    return keys;
}
