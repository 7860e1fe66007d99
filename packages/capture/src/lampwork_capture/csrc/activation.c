/* Activations: in which threads capture is on, and so whether the frame hook stands in the interpreter.
 *
 * An optimized call enters one and exits it; the first one of all threads puts the hook on top of whatever evaluates frames
 * then, the last one takes it off. A thread that comes too deep into the C stack suspends it, for all threads since there is
 * one evaluator for them; whoever enters an activation puts it back, and the deep thread suspends it again at its next frame.
 * So the function that an activation calls is always seen, and the deep thread needs C stack for each time only; once it has
 * used much of that, its suspension is firm and lasts. Invariants: the hook is installed only while some thread is active, or
 * was put back by an evaluator above it that left later, until the next frame; nobody else's evaluator is ever taken off.
 */
#include "frame_hook.h"

int lw_active_threads = 0;
_PyFrameEvalFunction lw_chain_next = NULL;
static const lw_suspension *suspended = NULL; /* the suspension for which the hook is off now; NULL: none */
static int firmly = 0; /* suspensions that last */

_PyFrameEvalFunction
lw_top_evaluator(PyThreadState *tstate)
{
    return _PyInterpreterState_GetEvalFrameFunc(tstate->interp);
}

static _PyFrameEvalFunction
below_hook(void)
{
    return lw_chain_next != NULL ? lw_chain_next : lw_default_eval;
}

static void
put_on_top(lw_activation *saved)
{
    PyInterpreterState *interp = PyInterpreterState_Get();
    _PyFrameEvalFunction top = _PyInterpreterState_GetEvalFrameFunc(interp);
    if (top == lw_hook || firmly > 0) {
        return;
    }
    bool as_left = suspended != NULL && top == below_hook(); /* it returns to its place, for good */
    suspended = NULL;
    if (saved != NULL && !as_left) {
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
        _PyInterpreterState_SetEvalFrameFunc(interp, below_hook());
        lw_chain_next = NULL;
    }
}

void
lw_hook_suspend(lw_suspension *suspension, bool firm)
{
    suspension->firm = firm;
    firmly += firm;
    suspended = suspension;
    _PyInterpreterState_SetEvalFrameFunc(PyInterpreterState_Get(), below_hook());
}

void
lw_hook_resume(const lw_suspension *suspension)
{
    firmly -= suspension->firm;
    if (suspended != suspension && !suspension->firm) {
        return; /* it was put back meanwhile: whoever has suspended it since then resumes it */
    }
    suspended = NULL;
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
