/* What the files of the frame hook share: the state of a thread, and which evaluator stands where. */
#ifndef LAMPWORK_FRAME_HOOK_H
#define LAMPWORK_FRAME_HOOK_H
#include "native.h"

#define lw_default_eval _PyEval_EvalFrameDefault

typedef struct {
    PyObject *callback; /* strong; NULL: off in this thread */
    PyObject *owner;    /* strong; not NULL while callback is set */
    lw_frame *chaining; /* the frame that was handed to the evaluator below us */
    lw_frame *replaced; /* the frame whose replacement is being called */
    PyObject *replacement; /* the function that runs it, until its frame begins; borrowed */
    lw_tail_call *tail; /* the tail call that is being made */
    int depth;          /* frames of this thread that the hook is running */
    int in_callback;    /* while tracing, no evaluator below us sees frames either */
    PyObject *handed;   /* what a guard check hands over, on its way into the frame that is about to start; strong */
    uintptr_t stack_start; /* the outermost address of its C stack that the hook has seen */
} lw_thread;

extern _Thread_local lw_thread lw_this_thread;

/* frame_hook.c */
PyObject *lw_hook(PyThreadState *tstate, lw_frame *frame, int throwflag);

/* activation.c */
extern int lw_active_threads;
extern _PyFrameEvalFunction lw_chain_next; /* the evaluator below the hook; NULL: the default */
_PyFrameEvalFunction lw_top_evaluator(PyThreadState *tstate);
void lw_hook_take_off(void);
/* One call of a thread that is too deep, run without the hook. */
typedef struct {
    bool firm;
} lw_suspension;
/* Takes the hook, which must be on top, off for all threads until lw_hook_resume or, unless it is firm, the next activation
 * of any thread. The evaluator below it stays. */
void lw_hook_suspend(lw_suspension *suspension, bool firm);
void lw_hook_resume(const lw_suspension *suspension);

/* frame_view.c */
int lw_view_setup(PyObject *module);
PyObject *lw_view_make(lw_frame *frame, PyCodeObject *code, const lw_scope *scope);

#endif
