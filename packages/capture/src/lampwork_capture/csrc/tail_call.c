/* TailCall: what replacement code returns to have its frame continued by another function, in place of a call of it.
 *
 * The hook makes the call after the replacement's own frame is gone. So a frame that resumes after a graph break is, to
 * whoever looks at the stack (tracebacks, warnings, recursion limits, sys._getframe), one frame as in eager. Invariant:
 * a TailCall never leaves the hook: only replacement code makes one, and only the hook runs replacement code.
 *
 * It does not hold the arguments once the called frame has begun: what that frame deletes is gone, as in eager.
 */
#include "native.h"

static PyObject *
tail_vectorcall(PyObject *type, PyObject *const *args, size_t nargsf, PyObject *names)
{
    Py_ssize_t n = PyVectorcall_NARGS(nargsf);
    if (n < 1 || names != NULL) {
        PyErr_SetString(PyExc_TypeError, "TailCall needs a function and positional arguments");
        return NULL;
    }
    lw_tail_call *tail = PyObject_GC_NewVar(lw_tail_call, (PyTypeObject *)type, n);
    if (tail == NULL) {
        return NULL;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        tail->items[i] = Py_NewRef(args[i]);
    }
    PyObject_GC_Track(tail);
    return (PyObject *)tail;
}

PyObject *
lw_tail_of_tuple(PyObject *function, PyObject *arguments)
{
    Py_ssize_t n = PyTuple_GET_SIZE(arguments);
    lw_tail_call *tail = PyObject_GC_NewVar(lw_tail_call, &lw_tail_type, n + 1);
    if (tail == NULL) {
        return NULL;
    }
    bool only_ours = Py_REFCNT(arguments) == 1;
    tail->items[0] = Py_NewRef(function);
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *item = PyTuple_GET_ITEM(arguments, i);
        tail->items[i + 1] = only_ours ? item : Py_NewRef(item);
        if (only_ours) {
            PyTuple_SET_ITEM(arguments, i, Py_NewRef(Py_None));
        }
    }
    PyObject_GC_Track(tail);
    return (PyObject *)tail;
}

static int
tail_traverse(lw_tail_call *tail, visitproc visit, void *arg)
{
    for (Py_ssize_t i = 0; i < Py_SIZE(tail); i++) {
        Py_VISIT(tail->items[i]);
    }
    return 0;
}

static int
tail_clear(lw_tail_call *tail)
{
    for (Py_ssize_t i = 0; i < Py_SIZE(tail); i++) {
        Py_CLEAR(tail->items[i]);
    }
    return 0;
}

static void
tail_dealloc(lw_tail_call *tail)
{
    PyObject_GC_UnTrack(tail);
    tail_clear(tail);
    PyObject_GC_Del(tail);
}

void
lw_tail_release(lw_tail_call *tail)
{
    for (Py_ssize_t i = 1; i < Py_SIZE(tail); i++) {
        Py_CLEAR(tail->items[i]);
    }
}

PyObject *
lw_tail_run(lw_tail_call *tail)
{
    return PyObject_Vectorcall(tail->items[0], tail->items + 1, (size_t)(Py_SIZE(tail) - 1), NULL);
}

PyTypeObject lw_tail_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "lampwork_capture._native.TailCall",
    .tp_doc = "TailCall(function, *args): returned by replacement code, the hook calls the function in its place.",
    .tp_basicsize = sizeof(lw_tail_call) - sizeof(PyObject *),
    .tp_itemsize = sizeof(PyObject *),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_traverse = (traverseproc)tail_traverse,
    .tp_clear = (inquiry)tail_clear,
    .tp_dealloc = (destructor)tail_dealloc,
    .tp_vectorcall = tail_vectorcall,
};

int
lw_tail_setup(PyObject *module)
{
    return PyType_Ready(&lw_tail_type) < 0 ? -1 : PyModule_AddType(module, &lw_tail_type);
}
