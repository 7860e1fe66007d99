/* Activations: in which threads capture is on, and so whether the frame hook stands in the interpreter.
 *
 * An optimized call enters one and exits it; the first one of all threads puts the hook on top of whatever evaluates frames
 * then, the last one takes it off. Invariants: the hook is installed only while some thread is active, or was put back by an
 * evaluator above it that left later, until the next frame; nobody else's evaluator is ever taken off.
 */
#include "frame_hook.h"

int lw_active_threads = 0;
_PyFrameEvalFunction lw_chain_next = NULL;
static int suspended = 0; /* calls that run without the hook, for all threads */

_PyFrameEvalFunction
lw_top_evaluator(PyThreadState *tstate)
{
    return _PyInterpreterState_GetEvalFrameFunc(tstate->interp);
}

static void
put_on_top(lw_activation *saved)
{
    PyInterpreterState *interp = PyInterpreterState_Get();
    _PyFrameEvalFunction top = _PyInterpreterState_GetEvalFrameFunc(interp);
    if (top == lw_hook || suspended > 0) {
        return;
    }
    if (saved != NULL) {
        saved->saved_top = (void *)top;
        saved->saved_chain = (void *)lw_chain_next;
    }
    lw_chain_next = top == lw_default_eval ? NULL : top;
    _PyInterpreterState_SetEvalFrameFunc(interp, lw_hook);
}

void
lw_hook_take_off(void)
{
    PyInterpreterState *interp = PyInterpreterState_Get();
    if (_PyInterpreterState_GetEvalFrameFunc(interp) == lw_hook) {
        _PyInterpreterState_SetEvalFrameFunc(interp, lw_chain_next != NULL ? lw_chain_next : lw_default_eval);
        lw_chain_next = NULL;
    }
}

bool
lw_hook_suspend(void)
{
    PyInterpreterState *interp = PyInterpreterState_Get();
    if (_PyInterpreterState_GetEvalFrameFunc(interp) != lw_hook) {
        return false;
    }
    suspended++;
    _PyInterpreterState_SetEvalFrameFunc(interp, lw_chain_next != NULL ? lw_chain_next : lw_default_eval);
    return true;
}

void
lw_hook_resume(void)
{
    if (--suspended > 0) {
        return;
    }
    lw_chain_next = NULL;
    if (lw_active_threads > 0) {
        put_on_top(NULL);
    }
}

bool
lw_foreign_evaluator(void)
{
    _PyFrameEvalFunction top = _PyInterpreterState_GetEvalFrameFunc(PyInterpreterState_Get());
    return top != lw_default_eval && (top != lw_hook || lw_chain_next != NULL);
}

static void
thread_on(lw_activation *saved)
{
    lw_active_threads++;
    put_on_top(saved);
}

static void
thread_off(void)
{
    if (--lw_active_threads == 0) {
        lw_hook_take_off();
    }
}

void
lw_hook_enter(lw_activation *saved, PyObject *callback, PyObject *owner)
{
    lw_thread *t = &lw_this_thread;
    saved->callback = t->callback;
    saved->owner = t->owner;
    saved->saved_top = NULL;
    t->callback = Py_XNewRef(callback);
    t->owner = Py_XNewRef(owner);
    if (callback != NULL) {
        if (saved->callback == NULL) {
            thread_on(saved);
        }
        else {
            put_on_top(saved);
        }
    }
    else if (saved->callback != NULL) {
        thread_off();
    }
}

void
lw_hook_exit(lw_activation *saved)
{
    lw_thread *t = &lw_this_thread;
    PyObject *callback = t->callback, *owner = t->owner;
    t->callback = saved->callback;
    t->owner = saved->owner;
    if (callback != NULL && t->callback == NULL) {
        thread_off();
    }
    else if (callback == NULL && t->callback != NULL) {
        thread_on(NULL);
    }
    else if (saved->saved_top != NULL && lw_active_threads <= 1) {
        /* A capture that runs around us, inside an outer activation of ours, becomes the innermost again. */
        PyInterpreterState *interp = PyInterpreterState_Get();
        if (_PyInterpreterState_GetEvalFrameFunc(interp) == lw_hook) {
            _PyInterpreterState_SetEvalFrameFunc(interp, (_PyFrameEvalFunction)saved->saved_top);
            lw_chain_next = (_PyFrameEvalFunction)saved->saved_chain;
        }
    }
    Py_XDECREF(callback);
    Py_XDECREF(owner);
}
