/* ModuleCall: the native half of an optimized module, its call.
 *
 * A call of a module is mostly `Module.__call__` finding out that there are no hooks, in two Python frames with all
 * arguments packed anew in each. While a guard tree proves that it would do nothing but call `forward`, that is called at
 * once. Invariant: whatever the tree does not prove takes the module's own way.
 */
#include "native.h"
#include <structmember.h>

typedef struct {
    PyObject_HEAD
    PyObject *whole;   /* the call as the module makes it */
    PyObject *forward; /* what that comes to while the tree holds */
    PyObject *plain;   /* GuardTree, or NULL: never */
    PyObject *slots;   /* tuple: what the tree speaks about */
    PyObject *globals; /* dict, likewise */
} lw_module_call;

/* Whether the tree holds. A check may run code of the user's, which may replace what it is about. */
static bool
is_plain(lw_module_call *self)
{
    if (self->plain == NULL) {
        return false;
    }
    PyObject *plain = Py_NewRef(self->plain), *slots = Py_NewRef(self->slots), *globals = Py_NewRef(self->globals);
    lw_scope scope = {
        .slots = ((PyTupleObject *)slots)->ob_item,
        .n_slots = PyTuple_GET_SIZE(slots),
        .globals = globals,
        .builtins = globals,
    };
    bool holds = lw_guard_tree_check(plain, &scope, NULL) && plain == self->plain;
    Py_DECREF(plain);
    Py_DECREF(slots);
    Py_DECREF(globals);
    return holds;
}

static PyObject *
module_call(lw_module_call *self, PyObject *args, PyObject *kwargs)
{
    if (self->whole == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the optimized module was not initialized");
        return NULL;
    }
    PyObject *called = is_plain(self) ? self->forward : self->whole;
    Py_INCREF(called); /* the call may replace it */
    PyObject *result = PyObject_Call(called, args, kwargs);
    Py_DECREF(called);
    return result;
}

static PyObject *
set_calls(lw_module_call *self, PyObject *args)
{
    PyObject *whole, *forward, *plain, *slots, *globals;
    if (!PyArg_ParseTuple(args, "OOOO!O!:_set_calls", &whole, &forward, &plain, &PyTuple_Type, &slots, &PyDict_Type, &globals)) {
        return NULL;
    }
    if (plain != Py_None && !lw_guard_tree_is(plain)) {
        PyErr_Format(PyExc_TypeError, "a GuardTree or None is needed, not %.100s", Py_TYPE(plain)->tp_name);
        return NULL;
    }
    Py_XSETREF(self->whole, Py_NewRef(whole));
    Py_XSETREF(self->forward, Py_NewRef(forward));
    Py_XSETREF(self->slots, Py_NewRef(slots));
    Py_XSETREF(self->globals, Py_NewRef(globals));
    Py_XSETREF(self->plain, plain == Py_None ? NULL : Py_NewRef(plain));
    Py_RETURN_NONE;
}

static int
module_call_traverse(lw_module_call *self, visitproc visit, void *arg)
{
    Py_VISIT(self->whole);
    Py_VISIT(self->forward);
    Py_VISIT(self->plain);
    Py_VISIT(self->slots);
    Py_VISIT(self->globals);
    return 0;
}

static int
module_call_clear(lw_module_call *self)
{
    Py_CLEAR(self->plain);
    Py_CLEAR(self->whole);
    Py_CLEAR(self->forward);
    Py_CLEAR(self->slots);
    Py_CLEAR(self->globals);
    return 0;
}

static void
module_call_dealloc(lw_module_call *self)
{
    PyObject_GC_UnTrack(self);
    module_call_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMethodDef module_call_methods[] = {
    {"_set_calls", (PyCFunction)set_calls, METH_VARARGS,
     "_set_calls(whole, forward, plain, slots, globals): `forward` is called while the tree `plain` holds, else `whole`"},
    {NULL},
};

static PyMemberDef module_call_members[] = {
    {"_plain", T_OBJECT, offsetof(lw_module_call, plain), READONLY, "the GuardTree that proves the call plain, or None"},
    {NULL},
};

static PyTypeObject module_call_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "lampwork_capture._native.ModuleCall",
    .tp_doc = "Base of optimized modules: calls `forward` at once where the module's own call would do nothing else.",
    .tp_basicsize = sizeof(lw_module_call),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .tp_new = PyType_GenericNew,
    .tp_call = (ternaryfunc)module_call,
    .tp_traverse = (traverseproc)module_call_traverse,
    .tp_clear = (inquiry)module_call_clear,
    .tp_dealloc = (destructor)module_call_dealloc,
    .tp_methods = module_call_methods,
    .tp_members = module_call_members,
};

int
lw_module_call_setup(PyObject *module)
{
    return PyType_Ready(&module_call_type) < 0 ? -1 : PyModule_AddType(module, &module_call_type);
}
