/* Shared declarations of lampwork_capture._native: the frame hook, the code cache and the guard tree.
 *
 * Invariants: everything here runs with the GIL held; of the user's program nothing runs during a look-up but the hashes
 * and comparisons of keys.
 */
#ifndef LAMPWORK_NATIVE_H
#define LAMPWORK_NATIVE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <stdint.h>

#if PY_VERSION_HEX < 0x030A0000 || PY_VERSION_HEX >= 0x030E0000
#error "lampwork-capture: this CPython is not supported yet; the frame hook is written for 3.10 to 3.13"
#endif

#ifdef Py_GIL_DISABLED
#error "lampwork-capture: the build of CPython without a global interpreter lock is not supported"
#endif

#if PY_VERSION_HEX >= 0x030B0000
typedef struct _PyInterpreterFrame lw_frame;
#else
typedef struct _frame lw_frame;
#endif

/* What a weak reference is to, borrowed; Py_None when that is gone. 3.13 deprecates the reading without a new reference
 * for the sake of threads without the lock; under it, nothing can drop the target while we look. */
static inline PyObject *
lw_weak_target(PyObject *reference)
{
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    return PyWeakref_GET_OBJECT(reference);
#pragma GCC diagnostic pop
}

/* What a guard tree reads: one call of one frame. All borrowed. */
typedef struct {
    PyObject *const *slots; /* the frame's arguments, in slot order */
    Py_ssize_t n_slots;
    PyObject *const *cells; /* of the free variables, in order */
    Py_ssize_t n_cells;
    PyObject *globals;
    PyObject *builtins;
} lw_scope;

/* code_cache.c */

typedef struct lw_code_extra lw_code_extra;

typedef struct lw_entry {
    PyObject_HEAD
    PyObject *guards;        /* GuardTree, or NULL: always matches */
    PyCodeObject *code;      /* replacement, or NULL: skip */
    PyObject *payload;       /* anything, or NULL */
    PyObject *function;      /* idle function over `code` without globals, or NULL */
    PyObject *owner;         /* weak reference, or the owner itself */
    void *owner_address;
    bool owner_is_weak;
    bool recursive;          /* of a skip */
    lw_code_extra *home;     /* where it is linked, or NULL */
    struct lw_entry *previous, *next;
    unsigned long long hits;
} lw_entry;

enum { LW_SKIP = 1, LW_SKIP_RECURSIVE = 2 };

struct lw_code_extra {
    int flags;
    lw_entry *first;
    PyCodeObject *code; /* borrowed: the extra dies with it */
    lw_code_extra *previous, *next; /* all codes that have one */
};

extern PyTypeObject lw_entry_type;
int lw_cache_setup(PyObject *module);
lw_code_extra *lw_cache_find(PyCodeObject *code);
lw_code_extra *lw_cache_make(PyCodeObject *code); /* NULL with an exception */
/* A new reference, or NULL; a skip entry too. `*handed`, NULL before, becomes what the entry's guards hand over, if any. */
lw_entry *lw_cache_lookup(lw_code_extra *extra, PyObject *owner, const lw_scope *scope, PyObject **handed);
int lw_cache_add(PyCodeObject *code, lw_entry *entry, PyObject *owner);
int lw_cache_add_skip(PyCodeObject *code, PyObject *owner, bool recursive);
PyObject *lw_cache_entries(PyCodeObject *code, PyObject *owner); /* tuple; owner NULL: all */
void lw_entry_unlink(lw_entry *entry);
int lw_argument_slots(PyCodeObject *code);

/* activation.c and frame_hook.c */

typedef struct {
    PyObject *callback;
    PyObject *owner;
    void *saved_top;
    void *saved_chain;
} lw_activation;

int lw_hook_setup(PyObject *module);
void lw_hook_enter(lw_activation *saved, PyObject *callback, PyObject *owner);
void lw_hook_exit(lw_activation *saved);
/* Whether an evaluator that is neither ours nor the default one sees this interpreter's frames. */
bool lw_foreign_evaluator(void);
PyObject *lw_set_peer(PyObject *module, PyObject *setter);

/* tail_call.c */

typedef struct {
    PyObject_VAR_HEAD
    PyObject *items[1]; /* the function, then its arguments */
} lw_tail_call;

extern PyTypeObject lw_tail_type;
int lw_tail_setup(PyObject *module);
/* A tail call of function(*arguments), into which the arguments are moved where only the caller holds the tuple. */
PyObject *lw_tail_of_tuple(PyObject *function, PyObject *arguments);
PyObject *lw_tail_run(lw_tail_call *tail);
void lw_tail_release(lw_tail_call *tail); /* drop the arguments: the called frame has its own */

/* frame_3_*.c, and what differs between interpreters about code objects */

int lw_frame_setup(void);
/* End a frame that was not evaluated, as the evaluator would have left it. Steals `result`; NULL with an exception set. */
PyObject *lw_frame_leave(PyThreadState *tstate, lw_frame *frame, PyObject *result);

static inline PyObject *
lw_code_name(PyCodeObject *code)
{
#if PY_VERSION_HEX >= 0x030B0000
    return code->co_qualname;
#else
    return code->co_name; /* 3.10 keeps the qualified name on the function only */
#endif
}

static inline PyObject *
lw_code_argument_name(PyCodeObject *code, Py_ssize_t index)
{
#if PY_VERSION_HEX >= 0x030B0000
    return PyTuple_GET_ITEM(code->co_localsplusnames, index);
#else
    return PyTuple_GET_ITEM(code->co_varnames, index);
#endif
}

static inline PyObject *
lw_code_free_name(PyCodeObject *code, Py_ssize_t index)
{
#if PY_VERSION_HEX >= 0x030B0000
    return PyTuple_GET_ITEM(code->co_localsplusnames, code->co_nlocalsplus - code->co_nfreevars + index);
#else
    return PyTuple_GET_ITEM(code->co_freevars, index);
#endif
}

/* callable.c */

int lw_callable_setup(PyObject *module);

/* module_call.c */

int lw_module_call_setup(PyObject *module);

/* or_none.c */

int lw_or_none_setup(PyObject *module);

/* guard_tree.c */

int lw_guard_setup(PyObject *module);
bool lw_guard_tree_is(PyObject *object);
/* 1 holds, 0 fails; never an exception. `*handed`, NULL before, becomes a new tuple if the tree holds and hands one over. */
int lw_guard_tree_check(PyObject *tree, const lw_scope *scope, PyObject **handed);
int lw_guard_tree_hands_over(PyObject *tree); /* whether it does */
void lw_guard_tree_set_entry(PyObject *tree, lw_entry *entry_or_null);

#endif
