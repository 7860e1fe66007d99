/* OrNone: a callable that answers None where the one inside raises an Exception.
 *
 * Stands between replacement code and a graph that is rerun as plain Python when it raises (graph/rerun.py): natively,
 * since passing hundreds of inputs through a Python function costs as much as checking the guards. Invariant: what is no
 * Exception (KeyboardInterrupt, SystemExit) passes through.
 */
#include "native.h"
#include <structmember.h>

typedef struct {
    PyObject_HEAD
    PyObject *function;
    vectorcallfunc vectorcall;
} lw_or_none;

static PyObject *
or_none_vectorcall(PyObject *object, PyObject *const *args, size_t nargsf, PyObject *names)
{
    PyObject *result = PyObject_Vectorcall(((lw_or_none *)object)->function, args, nargsf, names);
    if (result == NULL && PyErr_ExceptionMatches(PyExc_Exception)) {
        PyErr_Clear();
        return Py_NewRef(Py_None);
    }
    return result;
}

static PyObject *
or_none_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"function", NULL};
    PyObject *function;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:OrNone", names, &function)) {
        return NULL;
    }
    lw_or_none *self = (lw_or_none *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->vectorcall = or_none_vectorcall;
        self->function = Py_NewRef(function);
    }
    return (PyObject *)self;
}

static int
or_none_traverse(lw_or_none *self, visitproc visit, void *arg)
{
    Py_VISIT(self->function);
    return 0;
}

static int
or_none_clear(lw_or_none *self)
{
    Py_CLEAR(self->function);
    return 0;
}

static void
or_none_dealloc(lw_or_none *self)
{
    PyObject_GC_UnTrack(self);
    or_none_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyTypeObject or_none_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "lampwork_capture._native.OrNone",
    .tp_doc = "OrNone(function): calls it, and answers None where it raises an Exception.",
    .tp_basicsize = sizeof(lw_or_none),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_vectorcall_offset = offsetof(lw_or_none, vectorcall),
    .tp_call = PyVectorcall_Call,
    .tp_new = or_none_new,
    .tp_traverse = (traverseproc)or_none_traverse,
    .tp_clear = (inquiry)or_none_clear,
    .tp_dealloc = (destructor)or_none_dealloc,
};

int
lw_or_none_setup(PyObject *module)
{
    return PyType_Ready(&or_none_type) < 0 ? -1 : PyModule_AddType(module, &or_none_type);
}
