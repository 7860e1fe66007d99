/* The frame hook (PEP 523): sees each Python call of a thread that is inside an optimized call, and replaces its code.
 *
 * It stands in the interpreter only while some thread is active. Invariants: a frame whose code has no entry and no
 * callback interest runs exactly as without us; an evaluator that was there before still sees every frame that we run
 * natively; one that is installed on top of us is the innermost capture, and we only pass its frames on; under a trace
 * function (sys.settrace: debuggers, coverage) frames run natively, line by line, and so does what the interpreter calls in
 * between (audit hooks, profile functions).
 */
#include "frame_hook.h"
#include "frame_access.h"

/* Under the hook a Python call uses the C stack. Deeper than this, calls run with the hook off. */
#define DEPTH_LIMIT 400
/* Nor may a thread that is not active spend more than this of it because others are. */
#define STACK_LIMIT (512 * 1024)
/* It takes more each time that an activation puts the hook back; from here on it does not let that happen. */
#define FIRM_STACK_LIMIT (4 * STACK_LIMIT)
/* Calls that a conversion may nest, whatever is left of the program's own recursion limit. */
#define CONVERSION_DEPTH 3000

_Thread_local lw_thread lw_this_thread;

static PyObject *skip_marker = NULL;
static PyObject *skip_recursive_marker = NULL;
static PyObject *retry_marker = NULL;

/* Running frames */

/* Through the evaluator below us, if there is one that is to see the frame. */
static PyObject *
run_through(lw_thread *t, PyThreadState *tstate, lw_frame *frame, int throwflag, _PyFrameEvalFunction next)
{
    lw_frame *outer = t->chaining;
    t->depth++;
    if (next != NULL) {
        t->chaining = frame;
    }
    PyObject *result = (next != NULL ? next : lw_default_eval)(tstate, frame, throwflag);
    t->chaining = outer;
    t->depth--;
    return result;
}

static PyObject *
run_natively(lw_thread *t, PyThreadState *tstate, lw_frame *frame, int throwflag)
{
    _PyFrameEvalFunction next = t->in_callback ? NULL : lw_chain_next;
    if (next == lw_top_evaluator(tstate)) { /* the evaluator below us is also the one above, and has seen the frame */
        next = NULL;
    }
    return run_through(t, tstate, frame, throwflag, next);
}

static PyObject *
run_replacement_frame(lw_thread *t, PyThreadState *tstate, lw_frame *frame)
{
    lw_frame *original = t->replaced;
    t->replaced = NULL;
    t->replacement = NULL;
    Py_CLEAR(t->handed); /* the frame holds it now */
    /* The replacement has arguments of its own now: what it drops shall die at once. */
    lw_frame_release(original);
    t->depth++;
    PyObject *result = lw_default_eval(tstate, frame, 0);
    t->depth--;
    return result;
}

static PyObject *
run_with_hook_off(lw_thread *t, PyThreadState *tstate, lw_frame *frame)
{
    lw_activation saved;
    lw_hook_enter(&saved, NULL, NULL);
    PyObject *result = run_natively(t, tstate, frame, 0);
    lw_hook_exit(&saved);
    return result;
}

/* Whether a thread that evaluates each Python call in a C call of its own has come too deep into the C stack. */
static bool
is_too_deep(lw_thread *t, PyThreadState *tstate)
{
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    if (here > t->stack_start) {
        t->stack_start = here; /* stacks grow downwards */
    }
    return t->stack_start - here > STACK_LIMIT || lw_c_calls_are_few(tstate, 2);
}

/* `next` is from before: since the hook is off, the evaluator below it is on top, and has not seen the frame. */
static __attribute__((noinline)) PyObject *
run_suspended(lw_thread *t, PyThreadState *tstate, lw_frame *frame, int throwflag, _PyFrameEvalFunction next)
{
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    lw_suspension suspension;
    lw_hook_suspend(&suspension, t->stack_start - here > FIRM_STACK_LIMIT || lw_c_calls_are_few(tstate, 4));
    PyObject *result = run_through(t, tstate, frame, throwflag, next);
    lw_hook_resume(&suspension);
    return result;
}

/* A frame of a thread in which capture is off: the hook sees it because it is on in another, or someone above us has us
 * below. Takes no C stack of its own where it need not, for such a thread may be deep in a recursion. */
static __attribute__((noinline)) PyObject *
pass_on(lw_thread *t, PyThreadState *tstate, lw_frame *frame, int throwflag)
{
    _PyFrameEvalFunction top = lw_top_evaluator(tstate), next = t->in_callback ? NULL : lw_chain_next;
    bool hides = t->in_callback && lw_chain_next != NULL; /* then the evaluator below us would see what it must not */
    if (is_too_deep(t, tstate) && !hides && top == lw_hook) {
        return run_suspended(t, tstate, frame, throwflag, next);
    }
    if (lw_active_threads == 0 && top == lw_hook) { /* put back by an evaluator that was above us and has left */
        lw_hook_take_off();
        return (next != NULL ? next : lw_default_eval)(tstate, frame, throwflag);
    }
    if (next != NULL && next != top) {
        return run_natively(t, tstate, frame, throwflag);
    }
    return lw_default_eval(tstate, frame, throwflag);
}

/* A function that runs the replacement with the frame's globals, builtins and closure. The entry keeps one idle
 * function; it holds globals and closure only while it runs, since the collector does not see through a code object. */
static PyFunctionObject *
borrow_function(lw_entry *entry, lw_frame *frame, const lw_scope *scope)
{
    PyObject *closure = lw_frame_closure(frame, scope);
    if (closure == NULL && PyErr_Occurred()) {
        return NULL;
    }
    PyFunctionObject *function = (PyFunctionObject *)entry->function;
    if (function != NULL) {
        entry->function = NULL;
        function->func_globals = Py_NewRef(scope->globals);
        function->func_builtins = Py_NewRef(scope->builtins);
    }
    else {
        function = (PyFunctionObject *)PyFunction_New((PyObject *)entry->code, scope->globals);
        if (function == NULL) {
            Py_XDECREF(closure);
            return NULL;
        }
        Py_SETREF(function->func_builtins, Py_NewRef(scope->builtins));
    }
    function->func_closure = closure;
    return function;
}

static void
give_back_function(lw_entry *entry, PyFunctionObject *function)
{
    /* A frame that outlives the call (in a traceback) still reads the globals through the function. */
    if (Py_REFCNT(function) == 1 && entry->function == NULL) {
        Py_CLEAR(function->func_globals);
        Py_CLEAR(function->func_builtins);
        Py_CLEAR(function->func_closure);
        if (entry->function == NULL) { /* clearing may have run anything */
            entry->function = (PyObject *)function;
            return;
        }
    }
    Py_DECREF(function);
}

/* Call what the replacement wants called in its place, until something else than a TailCall is returned. */
static PyObject *
finish_tail_calls(lw_thread *t, PyObject *result)
{
    while (result != NULL && Py_IS_TYPE(result, &lw_tail_type)) {
        lw_tail_call *tail = (lw_tail_call *)result;
        t->tail = tail;
        result = lw_tail_run(tail);
        t->tail = NULL; /* should the call have failed before it began */
        Py_DECREF(tail);
    }
    return result;
}

/* Call the replacement with the frame's arguments and then `handed`, which is stolen. */
static PyObject *
call_with_handed(lw_thread *t, PyFunctionObject *function, const lw_scope *scope, PyObject *handed)
{
    PyObject *few[16];
    size_t n = (size_t)scope->n_slots;
    PyObject **arguments = n < Py_ARRAY_LENGTH(few) ? few : PyMem_Malloc((n + 1) * sizeof(PyObject *));
    if (arguments == NULL) {
        Py_DECREF(handed);
        return PyErr_NoMemory();
    }
    memcpy(arguments, scope->slots, n * sizeof(PyObject *));
    arguments[n] = handed;
    PyObject *outer = t->handed;
    t->handed = handed;
    PyObject *result = function->vectorcall((PyObject *)function, arguments, n + 1, NULL);
    Py_CLEAR(t->handed); /* if the frame never started */
    t->handed = outer;
    if (arguments != few) {
        PyMem_Free(arguments);
    }
    return result;
}

/* Whether a frame that begins is that of the tail call being made: whoever makes the call takes its TailCall too. */
static bool
is_tail_called(lw_thread *t, lw_frame *frame)
{
    lw_tail_call *tail = t->tail;
    if (tail == NULL || !lw_frame_is_of(frame, tail->items[0])) {
        return false;
    }
    t->tail = NULL;
    lw_tail_release(tail);
    return true;
}

/* Steals the entry, since a reset while it runs must not free it, and `handed`, which may be NULL. */
static PyObject *
run_entry(lw_thread *t, PyThreadState *tstate, lw_frame *frame, lw_entry *entry, const lw_scope *scope, PyObject *handed,
          bool is_tail)
{
    PyObject *result = NULL;
    PyFunctionObject *function = borrow_function(entry, frame, scope);
    if (function == NULL) {
        Py_XDECREF(handed);
    }
    else {
        /* The making of a frame may collect garbage, and so run other calls first. */
        lw_frame *outer = t->replaced;
        PyObject *outer_replacement = t->replacement;
        t->replaced = frame;
        t->replacement = (PyObject *)function;
        result = handed != NULL ? call_with_handed(t, function, scope, handed)
                                : function->vectorcall((PyObject *)function, scope->slots, (size_t)scope->n_slots, NULL);
        t->replaced = outer; /* also should the call have failed before it began */
        t->replacement = outer_replacement;
        give_back_function(entry, function);
    }
    Py_DECREF(entry);
    if (!is_tail) {
        result = finish_tail_calls(t, result);
    }
    return lw_frame_leave(tstate, frame, result);
}

static PyObject *
run_skip(lw_thread *t, PyThreadState *tstate, lw_frame *frame, bool recursive)
{
    return recursive ? run_with_hook_off(t, tstate, frame) : run_natively(t, tstate, frame, 0);
}

static PyObject *
call_callback(lw_thread *t, PyThreadState *tstate, lw_frame *frame, PyCodeObject *code, const lw_scope *scope, PyObject *owner)
{
    PyObject *result = NULL;
    PyObject *entries = lw_cache_entries(code, owner);
    PyObject *view = entries != NULL ? lw_view_make(frame, code, scope) : NULL;
    if (view != NULL) {
        lw_activation saved;
        PyObject *callback = Py_NewRef(t->callback);
        lw_recursion_budget(tstate, CONVERSION_DEPTH);
        t->in_callback++;
        bool stay = lw_chain_next != NULL; /* an evaluator below us must not see the frames of the tracer */
        if (stay) {
            saved.callback = t->callback;
            saved.owner = t->owner;
            t->callback = t->owner = NULL;
        }
        else {
            lw_hook_enter(&saved, NULL, NULL); /* tracing runs much Python, faster with no hook installed */
        }
        result = PyObject_CallFunctionObjArgs(callback, view, entries, NULL);
        if (stay) {
            Py_XSETREF(t->callback, saved.callback);
            Py_XSETREF(t->owner, saved.owner);
        }
        else {
            lw_hook_exit(&saved);
        }
        t->in_callback--;
        lw_recursion_budget(tstate, -CONVERSION_DEPTH);
        Py_DECREF(callback);
    }
    Py_XDECREF(view);
    Py_XDECREF(entries);
    return result;
}

/* Steals the entry, and `handed`, which may be NULL. */
static PyObject *
run_found(lw_thread *t, PyThreadState *tstate, lw_frame *frame, lw_entry *entry, const lw_scope *scope, PyObject *handed,
          bool is_tail)
{
    if (entry->code == NULL) {
        bool recursive = entry->recursive;
        Py_DECREF(entry);
        Py_XDECREF(handed);
        return run_skip(t, tstate, frame, recursive);
    }
    return run_entry(t, tstate, frame, entry, scope, handed, is_tail);
}

/* An entry that was just made for this call. */
static PyObject *
run_new(lw_thread *t, PyThreadState *tstate, lw_frame *frame, lw_entry *entry, const lw_scope *scope, bool is_tail)
{
    PyObject *handed = NULL;
    if (entry->guards != NULL && lw_guard_tree_hands_over(entry->guards)
        && !lw_guard_tree_check(entry->guards, scope, &handed)) {
        return run_natively(t, tstate, frame, 0); /* another thread changed what it speaks about */
    }
    return run_found(t, tstate, frame, (lw_entry *)Py_NewRef(entry), scope, handed, is_tail);
}

static PyObject *
run_missed(lw_thread *t, PyThreadState *tstate, lw_frame *frame, PyCodeObject *code, const lw_scope *scope, bool is_tail)
{
    PyObject *owner = Py_NewRef(t->owner);
    PyObject *answer = call_callback(t, tstate, frame, code, scope, owner);
    PyObject *result = NULL;
    if (answer == retry_marker) {
        /* Another thread made a fitting entry meanwhile; should it be gone again, the frame runs natively. */
        lw_code_extra *extra = lw_cache_find(code);
        PyObject *handed = NULL;
        lw_entry *found = extra != NULL ? lw_cache_lookup(extra, owner, scope, &handed) : NULL;
        if (found != NULL) {
            Py_DECREF(answer);
            Py_DECREF(owner);
            return run_found(t, tstate, frame, found, scope, handed, is_tail);
        }
        Py_SETREF(answer, Py_NewRef(Py_None));
    }
    if (answer == NULL) {
        result = lw_frame_leave(tstate, frame, NULL);
    }
    else if (answer == Py_None) {
        result = run_natively(t, tstate, frame, 0);
    }
    else if (answer == skip_marker || answer == skip_recursive_marker) {
        bool recursive = answer == skip_recursive_marker;
        if (lw_cache_add_skip(code, owner, recursive) < 0) {
            result = lw_frame_leave(tstate, frame, NULL);
        }
        else {
            result = run_skip(t, tstate, frame, recursive);
        }
    }
    else if (Py_IS_TYPE(answer, &lw_entry_type)) {
        if (lw_cache_add(code, (lw_entry *)answer, owner) < 0) {
            result = lw_frame_leave(tstate, frame, NULL);
        }
        else {
            result = run_new(t, tstate, frame, (lw_entry *)answer, scope, is_tail);
        }
    }
    else {
        PyErr_Format(PyExc_TypeError, "the frame callback must return a CacheEntry, SKIP, SKIP_RECURSIVE, RETRY or None, not %.100s",
                     Py_TYPE(answer)->tp_name);
        result = lw_frame_leave(tstate, frame, NULL);
    }
    Py_XDECREF(answer);
    Py_DECREF(owner);
    return result;
}

static PyObject *
run_call(lw_thread *t, PyThreadState *tstate, lw_frame *frame, lw_code_extra *extra, const lw_scope *scope, bool is_tail)
{
    PyObject *handed = NULL;
    lw_entry *entry = extra != NULL ? lw_cache_lookup(extra, t->owner, scope, &handed) : NULL;
    if (entry == NULL && t->callback == NULL) { /* code of the user's ran in a check, and has turned capture off */
        return run_natively(t, tstate, frame, 0);
    }
    if (entry == NULL) {
        return run_missed(t, tstate, frame, lw_frame_code(frame), scope, is_tail);
    }
    return run_found(t, tstate, frame, entry, scope, handed, is_tail);
}

/* The same for a frame whose arguments are not all in their slots. */
static PyObject *
run_gathered(lw_thread *t, PyThreadState *tstate, lw_frame *frame, lw_code_extra *extra, lw_scope *scope, bool is_tail)
{
    PyObject *few[16], **room = few;
    if (scope->n_slots > (Py_ssize_t)Py_ARRAY_LENGTH(few)) {
        room = PyMem_Calloc((size_t)scope->n_slots, sizeof(PyObject *));
        if (room == NULL) {
            PyErr_NoMemory();
            return lw_frame_leave(tstate, frame, NULL);
        }
    }
    lw_frame_gather(frame, scope->n_slots, room);
    scope->slots = room;
    PyObject *result = run_call(t, tstate, frame, extra, scope, is_tail);
    if (room != few) {
        PyMem_Free(room);
    }
    return result;
}

PyObject *
lw_hook(PyThreadState *tstate, lw_frame *frame, int throwflag)
{
    lw_thread *t = &lw_this_thread;
    if (t->chaining == frame) { /* the evaluator below us has us below it, so that the frame has gone round */
        return lw_default_eval(tstate, frame, throwflag);
    }
    if (t->callback == NULL) {
        return pass_on(t, tstate, frame, throwflag);
    }
    if (throwflag || lw_is_traced(tstate)) {
        return run_natively(t, tstate, frame, throwflag);
    }
    if (t->replacement != NULL && lw_frame_is_of(frame, t->replacement)) {
        return run_replacement_frame(t, tstate, frame);
    }
    bool is_tail = t->tail != NULL && is_tail_called(t, frame);
    PyCodeObject *code = lw_frame_code(frame);
    const int kind = CO_OPTIMIZED | CO_NEWLOCALS | CO_GENERATOR | CO_COROUTINE | CO_ASYNC_GENERATOR;
    if ((code->co_flags & kind) != (CO_OPTIMIZED | CO_NEWLOCALS) || !lw_frame_is_call(frame)) {
        return run_natively(t, tstate, frame, 0);
    }
    lw_code_extra *extra = lw_cache_find(code);
    if (extra != NULL && extra->flags != 0) {
        return run_skip(t, tstate, frame, (extra->flags & LW_SKIP_RECURSIVE) != 0);
    }
    if (t->depth >= DEPTH_LIMIT) {
        return run_with_hook_off(t, tstate, frame);
    }
    if (lw_top_evaluator(tstate) != lw_hook) {
        return run_natively(t, tstate, frame, 0);
    }
    lw_scope scope = {
        .slots = lw_frame_slots(frame),
        .n_slots = lw_argument_slots(code),
        .globals = frame->f_globals,
        .builtins = frame->f_builtins,
    };
    lw_frame_cells(frame, &scope);
    return lw_frame_must_gather(frame) ? run_gathered(t, tstate, frame, extra, &scope, is_tail)
                                       : run_call(t, tstate, frame, extra, &scope, is_tail);
}

/* Python face */

static PyObject *
native_set_callback(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *callback, *owner = NULL;
    if (!PyArg_ParseTuple(args, "O|O:set_callback", &callback, &owner)) {
        return NULL;
    }
    if (callback == Py_None) {
        callback = owner = NULL;
    }
    else if (owner == NULL || owner == Py_None) {
        owner = callback;
    }
    lw_activation previous;
    lw_hook_enter(&previous, callback, owner);
    Py_XDECREF(previous.owner);
    return previous.callback != NULL ? previous.callback : Py_NewRef(Py_None);
}

static PyObject *
native_call_unfinished(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    (void)module;
    if (n != 2 || !PyTuple_CheckExact(args[1])) {
        PyErr_SetString(PyExc_TypeError, "call_unfinished needs a function and a tuple of arguments");
        return NULL;
    }
    PyObject *tail = lw_tail_of_tuple(args[0], args[1]);
    return tail == NULL ? NULL : finish_tail_calls(&lw_this_thread, tail);
}

static PyObject *
native_get_callback(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    return Py_NewRef(lw_this_thread.callback != NULL ? lw_this_thread.callback : Py_None);
}

static PyObject *
native_get_owner(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    return Py_NewRef(lw_this_thread.owner != NULL ? lw_this_thread.owner : Py_None);
}

static PyObject *
native_is_installed(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    return PyBool_FromLong(_PyInterpreterState_GetEvalFrameFunc(PyInterpreterState_Get()) == lw_hook);
}

static PyMethodDef hook_methods[] = {
    {"set_callback", native_set_callback, METH_VARARGS,
     "set_callback(callback | None[, owner]) -> previous: what this thread does with frames that have no entry"},
    {"set_peer", lw_set_peer, METH_O,
     "set_peer(setter | None): setter(callback) sets another capture's callback in this thread and returns the last one"},
    {"call_unfinished", (PyCFunction)(void (*)(void))native_call_unfinished, METH_FASTCALL,
     "call_unfinished(function, arguments): go on with the frame of an inlined call; it takes the arguments over"},
    {"get_callback", native_get_callback, METH_NOARGS, "the callback of this thread, or None"},
    {"get_owner", native_get_owner, METH_NOARGS, "whose entries this thread uses, or None"},
    {"is_installed", native_is_installed, METH_NOARGS, "whether the interpreter evaluates frames through the hook now"},
    {NULL},
};

static PyObject *
make_marker(PyObject *module, const char *name)
{
    PyObject *namespace = Py_BuildValue("{s:s}", "__module__", "lampwork_capture._native");
    PyObject *marker = namespace != NULL ? PyObject_CallFunction((PyObject *)&PyType_Type, "s()O", name, namespace) : NULL;
    Py_XDECREF(namespace);
    if (marker == NULL || PyModule_AddObjectRef(module, name, marker) < 0) {
        return NULL;
    }
    return marker;
}

int
lw_hook_setup(PyObject *module)
{
    if (lw_view_setup(module) < 0) {
        return -1;
    }
    skip_marker = make_marker(module, "SKIP");
    skip_recursive_marker = make_marker(module, "SKIP_RECURSIVE");
    retry_marker = make_marker(module, "RETRY");
    if (skip_marker == NULL || skip_recursive_marker == NULL || retry_marker == NULL) {
        return -1;
    }
    return PyModule_AddFunctions(module, hook_methods);
}
