/* OptimizedCallable: a function that runs with a frame callback set in the calling thread, or with none set.
 *
 * The fast door between ordinary Python and captured Python. Invariant: the thread's callback after the call is the one
 * from before, whatever happened in it.
 */
#include "native.h"
#include <structmember.h>

typedef struct {
    PyObject_HEAD
    PyObject *function;
    PyObject *callback; /* NULL: capture is off inside */
    PyObject *owner;
    PyObject *dict;
    PyObject *weakrefs;
    vectorcallfunc vectorcall;
} lw_callable;

static PyTypeObject callable_type;

/* Sets the frame callback of a capture other than ours in this thread, and returns the one before. A call of an optimized
 * callable from inside a function that the other capture runs is ours alone: the other one is off until it returns. */
static PyObject *peer_setter = NULL;

static PyObject *resume_peer(PyObject *peer, PyObject *result);

static PyObject *
callable_vectorcall(PyObject *object, PyObject *const *args, size_t nargsf, PyObject *names)
{
    lw_callable *self = (lw_callable *)object;
    lw_activation saved;
    PyObject *peer = NULL;
    if (self->callback != NULL && peer_setter != NULL && lw_foreign_evaluator()) {
        peer = PyObject_CallOneArg(peer_setter, Py_None);
        if (peer == NULL) {
            return NULL;
        }
    }
    lw_hook_enter(&saved, self->callback, self->owner);
    PyObject *result = PyObject_Vectorcall(self->function, args, nargsf, names);
    lw_hook_exit(&saved);
    return peer == NULL ? result : resume_peer(peer, result);
}

/* Put the other capture's callback back as it was, keeping an exception of the call. */
static PyObject *
resume_peer(PyObject *peer, PyObject *result)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *ignored = PyObject_CallOneArg(peer_setter, peer);
    Py_DECREF(peer);
    if (ignored == NULL) {
        Py_XDECREF(type);
        Py_XDECREF(value);
        Py_XDECREF(traceback);
        Py_XDECREF(result);
        return NULL;
    }
    Py_DECREF(ignored);
    PyErr_Restore(type, value, traceback);
    return result;
}

PyObject *
lw_set_peer(PyObject *module, PyObject *setter)
{
    (void)module;
    Py_XSETREF(peer_setter, setter == Py_None ? NULL : Py_NewRef(setter));
    Py_RETURN_NONE;
}

static int
copy_metadata(lw_callable *self)
{
    static const char *names[] = {"__module__", "__name__", "__qualname__", "__doc__", NULL};
    self->dict = PyDict_New();
    if (self->dict == NULL) {
        return -1;
    }
    for (int i = 0; names[i] != NULL; i++) {
        PyObject *value = PyObject_GetAttrString(self->function, names[i]);
        if (value == NULL) {
            if (!PyErr_ExceptionMatches(PyExc_AttributeError)) {
                return -1;
            }
            PyErr_Clear();
            continue;
        }
        int failed = PyDict_SetItemString(self->dict, names[i], value);
        Py_DECREF(value);
        if (failed < 0) {
            return -1;
        }
    }
    if (PyFunction_Check(self->function)) {
        PyObject *attributes = PyObject_GenericGetDict(self->function, NULL);
        int failed = attributes == NULL ? -1 : PyDict_Update(self->dict, attributes);
        Py_XDECREF(attributes);
        if (failed < 0) {
            return -1;
        }
    }
    return PyDict_SetItemString(self->dict, "__wrapped__", self->function);
}

static PyObject *
callable_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"function", "callback", "owner", NULL};
    PyObject *function, *callback = Py_None, *owner = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|OO:OptimizedCallable", names, &function, &callback, &owner)) {
        return NULL;
    }
    if (!PyCallable_Check(function) || (callback != Py_None && !PyCallable_Check(callback))) {
        PyErr_SetString(PyExc_TypeError, "OptimizedCallable needs a callable, and a callable callback or None");
        return NULL;
    }
    lw_callable *self = (lw_callable *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->vectorcall = callable_vectorcall;
    self->function = Py_NewRef(function);
    if (callback != Py_None) {
        self->callback = Py_NewRef(callback);
        self->owner = Py_NewRef(owner != Py_None ? owner : callback);
    }
    if (copy_metadata(self) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static int
callable_traverse(lw_callable *self, visitproc visit, void *arg)
{
    Py_VISIT(self->function);
    Py_VISIT(self->callback);
    Py_VISIT(self->owner);
    Py_VISIT(self->dict);
    return 0;
}

static int
callable_clear(lw_callable *self)
{
    Py_CLEAR(self->dict);
    Py_CLEAR(self->callback);
    Py_CLEAR(self->owner);
    Py_CLEAR(self->function);
    return 0;
}

static void
callable_dealloc(lw_callable *self)
{
    PyObject_GC_UnTrack(self);
    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    callable_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *
callable_descr_get(PyObject *self, PyObject *instance, PyObject *type)
{
    (void)type;
    if (instance == NULL || instance == Py_None) {
        return Py_NewRef(self);
    }
    return PyMethod_New(self, instance);
}

static PyObject *
callable_repr(lw_callable *self)
{
    return PyUnicode_FromFormat("<%s %R>", self->callback != NULL ? "optimized" : "disabled", self->function);
}

static PyMemberDef callable_members[] = {
    {"function", T_OBJECT, offsetof(lw_callable, function), READONLY, "what is called"},
    {"callback", T_OBJECT, offsetof(lw_callable, callback), READONLY, "the frame callback inside, or None"},
    {"owner", T_OBJECT, offsetof(lw_callable, owner), READONLY, "whose cache entries are used inside, or None"},
    {NULL},
};

static PyGetSetDef callable_getset[] = {
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {NULL},
};

/* A copy of a function is the function itself, and it is pickled by its name. */
static PyObject *
callable_copy(PyObject *self, PyObject *Py_UNUSED(memo))
{
    return Py_NewRef(self);
}

static PyObject *
callable_reduce(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyObject_GetAttrString(self, "__qualname__");
}

static PyMethodDef object_methods[] = {
    {"__copy__", callable_copy, METH_NOARGS, "the callable itself"},
    {"__deepcopy__", callable_copy, METH_O, "the callable itself"},
    {"__reduce__", callable_reduce, METH_NOARGS, "its qualified name, by which it is found again"},
    {NULL},
};

static PyTypeObject callable_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "lampwork_capture._native.OptimizedCallable",
    .tp_basicsize = sizeof(lw_callable),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_METHOD_DESCRIPTOR
                | Py_TPFLAGS_BASETYPE,
    .tp_vectorcall_offset = offsetof(lw_callable, vectorcall),
    .tp_dictoffset = offsetof(lw_callable, dict),
    .tp_weaklistoffset = offsetof(lw_callable, weakrefs),
    .tp_call = PyVectorcall_Call,
    .tp_new = callable_new,
    .tp_traverse = (traverseproc)callable_traverse,
    .tp_clear = (inquiry)callable_clear,
    .tp_dealloc = (destructor)callable_dealloc,
    .tp_descr_get = callable_descr_get,
    .tp_repr = (reprfunc)callable_repr,
    .tp_members = callable_members,
    .tp_getset = callable_getset,
    .tp_methods = object_methods,
};

static PyObject *
native_call_disabled(PyObject *module, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    (void)module;
    if (n < 1) {
        PyErr_SetString(PyExc_TypeError, "call_disabled needs a callable");
        return NULL;
    }
    lw_activation saved;
    lw_hook_enter(&saved, NULL, NULL);
    PyObject *result = PyObject_Vectorcall(args[0], args + 1, (size_t)(n - 1) | PY_VECTORCALL_ARGUMENTS_OFFSET, names);
    lw_hook_exit(&saved);
    return result;
}

static PyMethodDef callable_methods[] = {
    {"call_disabled", (PyCFunction)(void (*)(void))native_call_disabled, METH_FASTCALL | METH_KEYWORDS,
     "call_disabled(function, *args, **kwargs): call it with capture off in this thread"},
    {NULL},
};

int
lw_callable_setup(PyObject *module)
{
    if (PyType_Ready(&callable_type) < 0 || PyModule_AddType(module, &callable_type) < 0) {
        return -1;
    }
    return PyModule_AddFunctions(module, callable_methods);
}
