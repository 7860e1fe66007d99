/* Reading a frame before it runs, for each supported CPython. Include after native.h, in files that see frames. */
#ifndef LAMPWORK_FRAME_ACCESS_H
#define LAMPWORK_FRAME_ACCESS_H

#if PY_VERSION_HEX >= 0x030B0000

#ifndef Py_BUILD_CORE
#define Py_BUILD_CORE 1
#endif
#include <internal/pycore_frame.h>

static inline PyCodeObject *
lw_frame_code(lw_frame *frame)
{
#if PY_VERSION_HEX >= 0x030D0000
    return (PyCodeObject *)frame->f_executable;
#else
    return frame->f_code;
#endif
}

/* The function that was called. Borrowed; NULL where the frame does not know it. */
static inline PyFunctionObject *
lw_frame_function(lw_frame *frame)
{
#if PY_VERSION_HEX >= 0x030C0000
    return (PyFunctionObject *)frame->f_funcobj;
#else
    return frame->f_func;
#endif
}

static inline PyObject **
lw_frame_slots(lw_frame *frame)
{
    return frame->localsplus;
}

/* A plain call: neither a generator's frame nor one that has its own namespace. */
static inline bool
lw_frame_is_call(lw_frame *frame)
{
    return frame->owner == FRAME_OWNED_BY_THREAD && frame->f_locals == NULL;
}

/* Whether arguments are to be gathered, since they are not all in their slots. */
static inline bool
lw_frame_must_gather(lw_frame *frame)
{
    (void)frame;
    return false;
}

static inline void
lw_frame_gather(lw_frame *frame, Py_ssize_t n, PyObject **room)
{
    (void)frame;
    (void)n;
    (void)room;
}

/* Let go of the arguments. */
static inline void
lw_frame_release(lw_frame *frame)
{
    int n = lw_argument_slots(lw_frame_code(frame));
    for (int i = 0; i < n; i++) {
        Py_CLEAR(frame->localsplus[i]);
    }
}

/* Whether a frame is of a call of this function. */
static inline bool
lw_frame_is_of(lw_frame *frame, PyObject *function)
{
    return (PyObject *)lw_frame_function(frame) == function;
}

static inline void
lw_frame_cells(lw_frame *frame, lw_scope *scope)
{
    PyObject *closure = lw_frame_function(frame)->func_closure;
    scope->cells = closure != NULL ? ((PyTupleObject *)closure)->ob_item : NULL;
    scope->n_cells = closure != NULL ? PyTuple_GET_SIZE(closure) : 0;
}

/* The closure for a function that runs in place of this frame; a new reference, or NULL with or without an exception. */
static inline PyObject *
lw_frame_closure(lw_frame *frame, const lw_scope *scope)
{
    (void)scope;
    return Py_XNewRef(lw_frame_function(frame)->func_closure);
}

#else /* 3.10 */

#include <frameobject.h>

static inline PyCodeObject *
lw_frame_code(lw_frame *frame)
{
    return frame->f_code;
}

static inline PyFunctionObject *
lw_frame_function(lw_frame *frame)
{
    (void)frame;
    return NULL;
}

static inline PyObject **
lw_frame_slots(lw_frame *frame)
{
    return frame->f_localsplus;
}

static inline bool
lw_frame_is_call(lw_frame *frame)
{
    return frame->f_gen == NULL && frame->f_locals == NULL;
}

static inline bool
lw_frame_must_gather(lw_frame *frame)
{
    return frame->f_code->co_cell2arg != NULL;
}

void lw_frame_gather(lw_frame *frame, Py_ssize_t n, PyObject **room);
void lw_frame_release(lw_frame *frame);

static inline bool
lw_frame_is_of(lw_frame *frame, PyObject *function)
{
    return PyFunction_Check(function) && PyFunction_GET_CODE(function) == (PyObject *)frame->f_code;
}

static inline void
lw_frame_cells(lw_frame *frame, lw_scope *scope)
{
    PyCodeObject *code = frame->f_code;
    scope->n_cells = PyTuple_GET_SIZE(code->co_freevars);
    scope->cells = frame->f_localsplus + code->co_nlocals + PyTuple_GET_SIZE(code->co_cellvars);
}

static inline PyObject *
lw_frame_closure(lw_frame *frame, const lw_scope *scope)
{
    (void)frame;
    if (scope->n_cells == 0) {
        return NULL;
    }
    PyObject *closure = PyTuple_New(scope->n_cells);
    for (Py_ssize_t i = 0; closure != NULL && i < scope->n_cells; i++) {
        PyTuple_SET_ITEM(closure, i, Py_NewRef(scope->cells[i]));
    }
    return closure;
}

#endif

/* Whether a trace function of this thread wants to see lines (sys.settrace; a profile function sees calls only), or what
 * runs is itself what the interpreter calls in between: a trace or profile function, an audit hook. */
static inline bool
lw_is_traced(PyThreadState *tstate)
{
    return tstate->c_tracefunc != NULL || tstate->tracing > 0;
}

/* Whether few are left of the C calls that an interpreter allows a thread to nest. */
static inline bool
lw_c_calls_are_few(PyThreadState *tstate, int part)
{
#if PY_VERSION_HEX >= 0x030D0000
    return tstate->c_recursion_remaining < Py_C_RECURSION_LIMIT / part;
#elif PY_VERSION_HEX >= 0x030C0000
    return tstate->c_recursion_remaining < C_RECURSION_LIMIT / part;
#else
    (void)tstate;
    (void)part;
    return false;
#endif
}

/* Allow the thread `more` nested calls beyond its limit; take them back with a negative number. */
static inline void
lw_recursion_budget(PyThreadState *tstate, int more)
{
#if PY_VERSION_HEX >= 0x030C0000
    tstate->py_recursion_remaining += more;
    tstate->c_recursion_remaining += more;
#elif PY_VERSION_HEX >= 0x030B0000
    tstate->recursion_remaining += more;
#else
    tstate->recursion_depth -= more;
#endif
}

#endif
