/* The code cache: what replaces a code object, under which guards, for which owner.
 *
 * It hangs in the code's extra slot and dies with the code. Entries are one doubly linked list, most recently hit first,
 * skips last. Invariants: an entry holds its owner weakly where it can; a look-up holds the entry that it looks at, since
 * guards may hash a key of the user's, and then anything runs. The garbage collector does not see through a code object,
 * so an entry must not hold the code it is for.
 */
#include "native.h"
#include <structmember.h>

#if PY_VERSION_HEX >= 0x030C0000
#define lw_get_extra PyUnstable_Code_GetExtra
#define lw_set_extra PyUnstable_Code_SetExtra
#define lw_request_index PyUnstable_Eval_RequestCodeExtraIndex
#else
#define lw_get_extra _PyCode_GetExtra
#define lw_set_extra _PyCode_SetExtra
#define lw_request_index _PyEval_RequestCodeExtraIndex
#endif

static Py_ssize_t extra_index = -1;
static lw_code_extra *all_extras = NULL;

/* Entries */

static PyObject *
entry_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"guards", "code", "payload", NULL};
    PyObject *guards, *code, *payload = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|O:CacheEntry", names, &guards, &code, &payload)) {
        return NULL;
    }
    if (code != Py_None && !PyCode_Check(code)) {
        PyErr_Format(PyExc_TypeError, "code must be a code object or None, not %.100s", Py_TYPE(code)->tp_name);
        return NULL;
    }
    if (guards != Py_None && !lw_guard_tree_is(guards)) {
        PyErr_Format(PyExc_TypeError, "guards must be a GuardTree or None, not %.100s", Py_TYPE(guards)->tp_name);
        return NULL;
    }
    lw_entry *entry = (lw_entry *)type->tp_alloc(type, 0);
    if (entry == NULL) {
        return NULL;
    }
    entry->guards = guards == Py_None ? NULL : Py_NewRef(guards);
    entry->code = code == Py_None ? NULL : (PyCodeObject *)Py_NewRef(code);
    entry->payload = Py_NewRef(payload);
    if (entry->guards != NULL) {
        lw_guard_tree_set_entry(entry->guards, entry);
    }
    return (PyObject *)entry;
}

static int
entry_traverse(lw_entry *entry, visitproc visit, void *arg)
{
    Py_VISIT(entry->guards);
    Py_VISIT((PyObject *)entry->code);
    Py_VISIT(entry->payload);
    Py_VISIT(entry->function);
    Py_VISIT(entry->owner);
    return 0;
}

static int
entry_clear(lw_entry *entry)
{
    if (entry->guards != NULL) {
        lw_guard_tree_set_entry(entry->guards, NULL);
    }
    Py_CLEAR(entry->guards);
    Py_CLEAR(entry->payload);
    Py_CLEAR(entry->function);
    Py_CLEAR(entry->owner);
    return 0;
}

static void
entry_dealloc(lw_entry *entry)
{
    PyObject_GC_UnTrack(entry);
    entry_clear(entry);
    Py_CLEAR(entry->code);
    Py_TYPE(entry)->tp_free((PyObject *)entry);
}

static PyObject *
entry_owner(lw_entry *entry, void *unused)
{
    (void)unused;
    if (entry->owner == NULL) {
        Py_RETURN_NONE;
    }
    return Py_NewRef(entry->owner_is_weak ? lw_weak_target(entry->owner) : entry->owner);
}

static PyObject *
entry_is_skip(lw_entry *entry, void *unused)
{
    (void)unused;
    return PyBool_FromLong(entry->code == NULL);
}

static PyMemberDef entry_members[] = {
    {"guards", T_OBJECT, offsetof(lw_entry, guards), READONLY, "the GuardTree, or None when it always matches"},
    {"code", T_OBJECT, offsetof(lw_entry, code), READONLY, "the replacement code, or None for a skip"},
    {"payload", T_OBJECT, offsetof(lw_entry, payload), READONLY, "what the callback kept with it"},
    {"hits", T_ULONGLONG, offsetof(lw_entry, hits), READONLY, "how often it was used"},
    {NULL},
};

static PyGetSetDef entry_getset[] = {
    {"owner", (getter)entry_owner, NULL, "the owner it belongs to; None when not in a cache, or when that is gone", NULL},
    {"is_skip", (getter)entry_is_skip, NULL, "whether it says to run the code natively", NULL},
    {NULL},
};

PyTypeObject lw_entry_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "lampwork_capture._native.CacheEntry",
    .tp_doc = "CacheEntry(guards, code, payload=None): replacement code and when it may be used.",
    .tp_basicsize = sizeof(lw_entry),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = entry_new,
    .tp_traverse = (traverseproc)entry_traverse,
    .tp_clear = (inquiry)entry_clear,
    .tp_dealloc = (destructor)entry_dealloc,
    .tp_members = entry_members,
    .tp_getset = entry_getset,
};

static inline bool
belongs_to(const lw_entry *entry, PyObject *owner)
{
    if (entry->owner_address != (void *)owner) {
        return false;
    }
    /* The address alone could be that of a new object where the old owner was. */
    return !entry->owner_is_weak || lw_weak_target(entry->owner) == owner;
}

static inline bool
owner_is_gone(const lw_entry *entry)
{
    return entry->owner_is_weak && lw_weak_target(entry->owner) == Py_None;
}

/* Links. The list owns a reference to each entry in it. */

static void
link_first(lw_code_extra *extra, lw_entry *entry)
{
    entry->home = extra;
    entry->previous = NULL;
    entry->next = extra->first;
    if (extra->first != NULL) {
        extra->first->previous = entry;
    }
    extra->first = entry;
}

static void
link_last(lw_code_extra *extra, lw_entry *entry)
{
    lw_entry *last = extra->first;
    if (last == NULL) {
        link_first(extra, entry);
        return;
    }
    while (last->next != NULL) {
        last = last->next;
    }
    entry->home = extra;
    entry->previous = last;
    entry->next = NULL;
    last->next = entry;
}

static void
detach(lw_entry *entry)
{
    if (entry->previous != NULL) {
        entry->previous->next = entry->next;
    }
    else {
        entry->home->first = entry->next;
    }
    if (entry->next != NULL) {
        entry->next->previous = entry->previous;
    }
    entry->previous = entry->next = NULL;
    entry->home = NULL;
}

void
lw_entry_unlink(lw_entry *entry)
{
    if (entry->home != NULL) {
        detach(entry);
        Py_DECREF(entry);
    }
}

static void
drop_entries(lw_code_extra *extra)
{
    while (extra->first != NULL) {
        lw_entry_unlink(extra->first); /* may run destructors, so always start again from the front */
    }
}

static void
prune(lw_code_extra *extra)
{
    lw_entry *entry = extra->first;
    while (entry != NULL) {
        if (owner_is_gone(entry)) {
            lw_entry_unlink(entry);
            entry = extra->first;
        }
        else {
            entry = entry->next;
        }
    }
}

/* Codes */

static void
extra_free(void *pointer)
{
    lw_code_extra *extra = pointer;
    if (extra == NULL) {
        return;
    }
    if (extra->previous != NULL) {
        extra->previous->next = extra->next;
    }
    else {
        all_extras = extra->next;
    }
    if (extra->next != NULL) {
        extra->next->previous = extra->previous;
    }
    PyObject *type, *value, *traceback; /* destructors below must not disturb an exception in flight */
    PyErr_Fetch(&type, &value, &traceback);
    drop_entries(extra);
    PyErr_Restore(type, value, traceback);
    PyMem_Free(extra);
}

lw_code_extra *
lw_cache_find(PyCodeObject *code)
{
    void *extra = NULL;
    if (lw_get_extra((PyObject *)code, extra_index, &extra) < 0) {
        PyErr_Clear();
        return NULL;
    }
    return extra;
}

lw_code_extra *
lw_cache_make(PyCodeObject *code)
{
    lw_code_extra *extra = lw_cache_find(code);
    if (extra != NULL) {
        return extra;
    }
    extra = PyMem_Calloc(1, sizeof(lw_code_extra));
    if (extra == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    if (lw_set_extra((PyObject *)code, extra_index, extra) < 0) {
        PyMem_Free(extra);
        return NULL;
    }
    extra->code = code;
    extra->next = all_extras;
    if (all_extras != NULL) {
        all_extras->previous = extra;
    }
    all_extras = extra;
    return extra;
}

int
lw_argument_slots(PyCodeObject *code)
{
    return code->co_argcount + code->co_kwonlyargcount + ((code->co_flags & CO_VARARGS) != 0)
           + ((code->co_flags & CO_VARKEYWORDS) != 0);
}

lw_entry *
lw_cache_lookup(lw_code_extra *extra, PyObject *owner, const lw_scope *scope, PyObject **handed)
{
    lw_entry *entry = extra->first;
    while (entry != NULL) {
        if (!belongs_to(entry, owner)) {
            entry = entry->next;
            continue;
        }
        Py_INCREF(entry); /* a check that hashes a key of the user's runs code, and a reset may come in between */
        bool fits = entry->guards == NULL || lw_guard_tree_check(entry->guards, scope, handed);
        bool linked = entry->home == extra;
        if (fits) {
            if (linked && entry != extra->first && (entry->code != NULL || entry->guards != NULL)) {
                detach(entry);
                link_first(extra, entry);
            }
            entry->hits++;
            return entry;
        }
        lw_entry *next = entry->next;
        Py_DECREF(entry);
        entry = linked ? next : extra->first; /* its neighbours are not known any more */
    }
    return NULL;
}

static int
set_owner(lw_entry *entry, PyObject *owner)
{
    PyObject *held;
    bool weak = PyType_SUPPORTS_WEAKREFS(Py_TYPE(owner));
    held = weak ? PyWeakref_NewRef(owner, NULL) : Py_NewRef(owner);
    if (held == NULL) {
        return -1;
    }
    Py_XSETREF(entry->owner, held);
    entry->owner_is_weak = weak;
    entry->owner_address = owner;
    return 0;
}

static int
check_shape(PyCodeObject *original, PyCodeObject *replacement, PyObject *guards)
{
    int wanted = lw_argument_slots(original);
    if (guards != NULL && lw_guard_tree_hands_over(guards)) {
        wanted++; /* what the guard check hands over, last */
    }
    int unwanted_flags = CO_VARARGS | CO_VARKEYWORDS | CO_GENERATOR | CO_COROUTINE | CO_ASYNC_GENERATOR;
    if (replacement->co_argcount != wanted || replacement->co_kwonlyargcount != 0
        || (replacement->co_flags & unwanted_flags) != 0 || (replacement->co_flags & CO_NEWLOCALS) == 0
        || PyCode_GetNumFree(replacement) != PyCode_GetNumFree(original)) {
        PyErr_Format(PyExc_ValueError,
                     "replacement of %U must take the %d argument slots of the original as plain positional arguments "
                     "and have its %zd free variables; it takes %d, flags 0x%x, free variables %zd",
                     lw_code_name(original), wanted, (Py_ssize_t)PyCode_GetNumFree(original), replacement->co_argcount,
                     replacement->co_flags, (Py_ssize_t)PyCode_GetNumFree(replacement));
        return -1;
    }
    if (replacement == original) {
        PyErr_SetString(PyExc_ValueError, "a code object cannot replace itself; skip it instead");
        return -1;
    }
    return 0;
}

int
lw_cache_add(PyCodeObject *code, lw_entry *entry, PyObject *owner)
{
    if (entry->home != NULL) {
        PyErr_SetString(PyExc_ValueError, "the cache entry is already in a cache");
        return -1;
    }
    if ((entry->code != NULL && check_shape(code, entry->code, entry->guards) < 0) || set_owner(entry, owner) < 0) {
        return -1;
    }
    lw_code_extra *extra = lw_cache_make(code);
    if (extra == NULL) {
        return -1;
    }
    prune(extra);
    link_first(extra, (lw_entry *)Py_NewRef(entry));
    return 0;
}

int
lw_cache_add_skip(PyCodeObject *code, PyObject *owner, bool recursive)
{
    lw_code_extra *extra = lw_cache_make(code);
    if (extra == NULL) {
        return -1;
    }
    lw_entry *entry = (lw_entry *)lw_entry_type.tp_alloc(&lw_entry_type, 0);
    if (entry == NULL) {
        return -1;
    }
    entry->recursive = recursive;
    if (set_owner(entry, owner) < 0) {
        Py_DECREF(entry);
        return -1;
    }
    prune(extra);
    link_last(extra, entry);
    return 0;
}

PyObject *
lw_cache_entries(PyCodeObject *code, PyObject *owner)
{
    PyObject *list = PyList_New(0);
    lw_code_extra *extra = lw_cache_find(code);
    if (list == NULL) {
        return NULL;
    }
    for (lw_entry *entry = extra != NULL ? extra->first : NULL; entry != NULL; entry = entry->next) {
        if ((owner == NULL || belongs_to(entry, owner)) && PyList_Append(list, (PyObject *)entry) < 0) {
            Py_DECREF(list);
            return NULL;
        }
    }
    PyObject *result = PyList_AsTuple(list);
    Py_DECREF(list);
    return result;
}

/* Python face */

static PyObject *
native_entries(PyObject *module, PyObject *args)
{
    PyObject *code, *owner = NULL;
    (void)module;
    if (!PyArg_ParseTuple(args, "O!|O:entries", &PyCode_Type, &code, &owner)) {
        return NULL;
    }
    return lw_cache_entries((PyCodeObject *)code, owner);
}

static PyObject *
native_insert(PyObject *module, PyObject *args)
{
    PyObject *code, *entry, *owner;
    (void)module;
    if (!PyArg_ParseTuple(args, "O!O!O:insert", &PyCode_Type, &code, &lw_entry_type, &entry, &owner)) {
        return NULL;
    }
    if (lw_cache_add((PyCodeObject *)code, (lw_entry *)entry, owner) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
native_skip(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"code", "recursive", NULL};
    PyObject *code;
    int recursive = 0;
    (void)module;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!|p:skip", names, &PyCode_Type, &code, &recursive)) {
        return NULL;
    }
    lw_code_extra *extra = lw_cache_make((PyCodeObject *)code);
    if (extra == NULL) {
        return NULL;
    }
    extra->flags |= recursive ? LW_SKIP | LW_SKIP_RECURSIVE : LW_SKIP;
    Py_RETURN_NONE;
}

static PyObject *
native_reset(PyObject *module, PyObject *code)
{
    (void)module;
    if (!PyCode_Check(code)) {
        PyErr_Format(PyExc_TypeError, "a code object is needed, not %.100s", Py_TYPE(code)->tp_name);
        return NULL;
    }
    lw_code_extra *extra = lw_cache_find((PyCodeObject *)code);
    if (extra != NULL) {
        extra->flags = 0;
        drop_entries(extra);
    }
    Py_RETURN_NONE;
}

static PyObject *
native_codes(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    PyObject *list = PyList_New(0);
    for (lw_code_extra *extra = all_extras; list != NULL && extra != NULL; extra = extra->next) {
        bool alive = Py_REFCNT(extra->code) > 0; /* what another user of extra slots frees first may run anything */
        bool used = extra->first != NULL || extra->flags != 0;
        if (alive && used && PyList_Append(list, (PyObject *)extra->code) < 0) {
            Py_CLEAR(list);
        }
    }
    return list;
}

static PyMethodDef cache_methods[] = {
    {"entries", native_entries, METH_VARARGS, "entries(code[, owner]) -> tuple of CacheEntry, most recently hit first"},
    {"insert", native_insert, METH_VARARGS, "insert(code, entry, owner): put an entry in the cache of a code object"},
    {"skip", (PyCFunction)(void (*)(void))native_skip, METH_VARARGS | METH_KEYWORDS,
     "skip(code, recursive=False): run it natively, for every owner; recursive: with the hook off inside"},
    {"reset", native_reset, METH_O, "reset(code): forget its entries and skips"},
    {"cached_codes", native_codes, METH_NOARGS, "the code objects that have entries or skips"},
    {NULL},
};

int
lw_cache_setup(PyObject *module)
{
    if (extra_index < 0) {
        extra_index = lw_request_index(extra_free);
        if (extra_index < 0) {
            PyErr_SetString(PyExc_RuntimeError, "lampwork: CPython has no free slot for code extras");
            return -1;
        }
    }
    if (PyType_Ready(&lw_entry_type) < 0 || PyModule_AddType(module, &lw_entry_type) < 0) {
        return -1;
    }
    return PyModule_AddFunctions(module, cache_methods);
}
