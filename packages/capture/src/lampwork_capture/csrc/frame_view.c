/* FrameView: what a frame callback may look at, of a call that is about to run.
 *
 * Made by the frame hook for each call that it asks the callback about, while the frame's arguments are still as they were
 * bound. Invariant: a view holds the objects of the call and nothing of the frame, so it may outlive it.
 */
#include "native.h"
#include "frame_access.h"
#include "frame_hook.h"
#include <structmember.h>

typedef struct {
    PyObject_HEAD
    PyObject *code, *function, *local_values, *cells, *global_values, *builtin_values;
} lw_frame_view;

static int
view_traverse(lw_frame_view *view, visitproc visit, void *arg)
{
    Py_VISIT(view->code);
    Py_VISIT(view->function);
    Py_VISIT(view->local_values);
    Py_VISIT(view->cells);
    Py_VISIT(view->global_values);
    Py_VISIT(view->builtin_values);
    return 0;
}

static int
view_clear(lw_frame_view *view)
{
    Py_CLEAR(view->code);
    Py_CLEAR(view->function);
    Py_CLEAR(view->local_values);
    Py_CLEAR(view->cells);
    Py_CLEAR(view->global_values);
    Py_CLEAR(view->builtin_values);
    return 0;
}

static void
view_dealloc(lw_frame_view *view)
{
    PyObject_GC_UnTrack(view);
    view_clear(view);
    Py_TYPE(view)->tp_free((PyObject *)view);
}

static PyMemberDef view_members[] = {
    {"code", T_OBJECT, offsetof(lw_frame_view, code), READONLY, "the code object that was called"},
    {"function", T_OBJECT, offsetof(lw_frame_view, function), READONLY, "the function that was called; None where the interpreter's frames do not know it"},
    {"local_values", T_OBJECT, offsetof(lw_frame_view, local_values), READONLY, "arguments by name, as bound"},
    {"cells", T_OBJECT, offsetof(lw_frame_view, cells), READONLY, "closure cells by free-variable name"},
    {"global_values", T_OBJECT, offsetof(lw_frame_view, global_values), READONLY, "the globals"},
    {"builtin_values", T_OBJECT, offsetof(lw_frame_view, builtin_values), READONLY, "the builtins"},
    {NULL},
};

static PyTypeObject view_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "lampwork_capture._native.FrameView",
    .tp_doc = "A call that is about to run: what a callback may look at.",
    .tp_basicsize = sizeof(lw_frame_view),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_traverse = (traverseproc)view_traverse,
    .tp_clear = (inquiry)view_clear,
    .tp_dealloc = (destructor)view_dealloc,
    .tp_members = view_members,
};

PyObject *
lw_view_make(lw_frame *frame, PyCodeObject *code, const lw_scope *scope)
{
    lw_frame_view *view = (lw_frame_view *)view_type.tp_alloc(&view_type, 0);
    if (view == NULL) {
        return NULL;
    }
    view->code = Py_NewRef(code);
    view->function = Py_XNewRef((PyObject *)lw_frame_function(frame));
    view->global_values = Py_NewRef(scope->globals);
    view->builtin_values = Py_NewRef(scope->builtins);
    view->local_values = PyDict_New();
    view->cells = PyDict_New();
    if (view->local_values == NULL || view->cells == NULL) {
        goto fail;
    }
    for (Py_ssize_t i = 0; i < scope->n_slots; i++) {
        PyObject *name = lw_code_argument_name(code, i);
        if (scope->slots[i] != NULL && PyDict_SetItem(view->local_values, name, scope->slots[i]) < 0) {
            goto fail;
        }
    }
    for (Py_ssize_t i = 0; i < scope->n_cells; i++) {
        if (PyDict_SetItem(view->cells, lw_code_free_name(code, i), scope->cells[i]) < 0) {
            goto fail;
        }
    }
    return (PyObject *)view;
fail:
    Py_DECREF(view);
    return NULL;
}

int
lw_view_setup(PyObject *module)
{
    return PyType_Ready(&view_type) < 0 ? -1 : PyModule_AddType(module, &view_type);
}
