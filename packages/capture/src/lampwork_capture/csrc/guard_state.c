/* Global state: grad mode, autocast, default dtype and the like, each read by one C++ function without arguments (or with
 * a device type, or torch's context), whose address Python looks up by symbol; else by a Python callable.
 */
#include "guard.h"

/* How a reader is called. The order is known to Python by name. */
enum { CALL_PYTHON, CALL_BOOL, CALL_INT8, CALL_INT32, CALL_INT64, CALL_BOOL_OF_DEVICE, CALL_INT8_OF_DEVICE, CALL_BOOL_OF_CONTEXT };

struct lw_state_item {
    int how;
    void *address;
    int64_t argument;
    int64_t expected;
    PyObject *callable;       /* borrowed from the spec */
    PyObject *expected_value; /* borrowed from the spec */
};

lw_state_item *
lw_state_compile(PyObject *spec, Py_ssize_t *n)
{
    *n = PyTuple_GET_SIZE(spec);
    lw_state_item *items = PyMem_Calloc((size_t)(*n) + 1, sizeof(lw_state_item));
    if (items == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    for (Py_ssize_t i = 0; i < *n; i++) {
        unsigned long long address;
        long long argument;
        PyObject *tuple = PyTuple_GET_ITEM(spec, i);
        lw_state_item *item = &items[i];
        if (!PyArg_ParseTuple(tuple, "iKLOO:state item", &item->how, &address, &argument, &item->callable,
                              &item->expected_value)) {
            PyMem_Free(items);
            return NULL;
        }
        item->address = (void *)(uintptr_t)address;
        item->argument = argument;
        if (item->how != CALL_PYTHON) {
            item->expected = PyLong_AsLongLong(item->expected_value);
            if (item->expected == -1 && PyErr_Occurred()) {
                PyMem_Free(items);
                return NULL;
            }
        }
    }
    return items;
}

static int64_t
read_item(const lw_state_item *item)
{
    switch (item->how) {
    case CALL_BOOL:
        return ((bool (*)(void))item->address)();
    case CALL_INT8:
        return ((int8_t (*)(void))item->address)();
    case CALL_INT32:
        return ((int32_t (*)(void))item->address)();
    case CALL_INT64:
        return ((int64_t (*)(void))item->address)();
    case CALL_BOOL_OF_DEVICE:
        return ((bool (*)(int8_t))item->address)((int8_t)item->argument);
    case CALL_INT8_OF_DEVICE:
        return ((int8_t (*)(int8_t))item->address)((int8_t)item->argument);
    default:
        return ((bool (*)(void *))item->address)((void *)(intptr_t)item->argument);
    }
}

bool
lw_state_matches(const lw_state_item *items, Py_ssize_t n)
{
    for (Py_ssize_t i = 0; i < n; i++) {
        const lw_state_item *item = &items[i];
        if (item->how != CALL_PYTHON) {
            if (read_item(item) != item->expected) {
                return false;
            }
            continue;
        }
        PyObject *value = PyObject_CallNoArgs(item->callable);
        bool same = value != NULL && lw_same_constant(value, item->expected_value);
        Py_XDECREF(value);
        if (!same) {
            PyErr_Clear();
            return false;
        }
    }
    return true;
}
