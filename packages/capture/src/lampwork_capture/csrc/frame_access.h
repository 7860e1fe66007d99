/* Reading a frame before it runs, for each supported CPython. Include after native.h, in files that see frames. */
#ifndef LAMPWORK_FRAME_ACCESS_H
#define LAMPWORK_FRAME_ACCESS_H

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

/* Whether a trace function of this thread wants to see lines (sys.settrace; a profile function sees calls only). */
static inline bool
lw_is_traced(PyThreadState *tstate)
{
    return tstate->c_tracefunc != NULL;
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

/* A plain call: neither a generator's frame nor one that has its own namespace. */
static inline bool
lw_frame_is_call(lw_frame *frame)
{
    return frame->owner == FRAME_OWNED_BY_THREAD && frame->f_locals == NULL;
}

#endif
