/* A check of a guard tree in one call: by stamps where there are some that fit, else by a full walk, which makes new ones.
 *
 * Invariants: stamps can only save a walk; they are dropped when one differs, and what differs again and again though the
 * tree holds is not stamped any more. What a check hands over is held for this call only.
 */
#include "guard_stamp.h"
#include <string.h>

#define MANY_HITS 64 /* a set that was good for so many calls was worth making */

void
lw_drop_stamps(lw_guard_tree *tree, int index)
{
    lw_stamps *set = tree->sets[index];
    tree->n_sets--;
    memmove(tree->sets + index, tree->sets + index + 1, (size_t)(tree->n_sets - index) * sizeof(lw_stamps *));
    if (set->users > 0) {
        set->dropped = true;
    }
    else {
        lw_stamps_free(set);
    }
}

/* What changed though the tree still holds, time and again, is not stamped any more. */
static void
loosen(lw_guard_tree *tree, int blame)
{
    lw_node *node = &tree->nodes[blame / 2];
    if (++node->misses < 2) {
        return;
    }
    node->misses = 0;
    if (blame % 2 == LW_BLAME_VALUE || node->loose_dict) {
        node->loose_value = true;
        return;
    }
    if (node->access <= LW_ACCESS_MODULE && node->key != Py_None && !tree->loose_roots[node->access]) {
        tree->loose_roots[node->access] = true; /* the dictionary it was read from */
        return;
    }
    node->loose_dict = true;
}

/* The oldest set goes; if it never was of use, its arguments are of those that differ in each call. */
static void
make_room(lw_guard_tree *tree)
{
    lw_stamps *oldest = tree->sets[tree->n_sets - 1];
    bool useless = oldest->hits == 0;
    for (int i = 0; useless && i < oldest->pins.n; i++) {
        for (int j = tree->first_root; j >= 0; j = tree->nodes[j].next_sibling) {
            if (tree->nodes[j].access == LW_ACCESS_ARGUMENT && tree->nodes[j].index == oldest->pins.items[i].slot) {
                loosen(tree, 2 * j + LW_BLAME_VALUE);
            }
        }
    }
    lw_drop_stamps(tree, tree->n_sets - 1);
}

/* After a full walk that succeeded. */
static void
record_stamps(lw_guard_tree *tree, const lw_scope *scope)
{
    if (tree->stamped == LW_STAMPS_NEVER) {
        return;
    }
    if (tree->wait > 0) {
        tree->wait--;
        return;
    }
    if (tree->n_sets == LW_MAX_STAMPS) {
        make_room(tree);
    }
    lw_stamps *set = lw_stamps_record(tree, scope);
    if (set != NULL) {
        memmove(tree->sets + 1, tree->sets, (size_t)tree->n_sets * sizeof(lw_stamps *));
        tree->sets[0] = set;
        tree->n_sets++;
    }
}

/* The set of stamps made for these arguments, brought to the front; or NULL. */
static lw_stamps *
find_stamps(lw_guard_tree *tree, const lw_scope *scope)
{
    for (int i = 0; i < tree->n_sets; i++) {
        lw_stamps *set = tree->sets[i];
        if (lw_stamps_fit(set, scope)) {
            memmove(tree->sets + 1, tree->sets, (size_t)i * sizeof(lw_stamps *));
            tree->sets[0] = set;
            return set;
        }
    }
    return NULL;
}

static void
drop_differing(lw_guard_tree *tree, lw_stamps *set, bool holds, int blame)
{
    if (holds && set->hits < MANY_HITS) {
        loosen(tree, blame);
    }
    tree->pause = set->hits > 0 ? 0 : tree->pause < 64 ? 2 * tree->pause + 1 : tree->pause;
    tree->wait = tree->pause;
    for (int i = 0; i < tree->n_sets; i++) {
        if (tree->sets[i] == set) {
            lw_drop_stamps(tree, i);
            return;
        }
    }
}

static void
release(PyObject **kept, int n, unsigned long long calm)
{
    for (int i = 0; i < n; i++) {
        lw_release(kept[i], calm);
    }
}

/* A sweep touches the open slots only; the others of `kept` are not even zero. */
static void
clear_open_slots(const lw_stamps *set, PyObject **kept)
{
    for (int i = 0; i < set->open_slots.n; i++) {
        kept[set->open_slots.items[i]] = NULL;
    }
}

static void
release_open_slots(const lw_stamps *set, PyObject **kept, unsigned long long calm)
{
    for (int i = 0; i < set->open_slots.n; i++) {
        lw_release(kept[set->open_slots.items[i]], calm);
    }
}

/* What is handed over in a call for which the tree holds. The user's objects hold it as well. */
static PyObject *
collect_handed(const lw_guard_tree *tree, PyObject *const *pinned, PyObject *const *kept)
{
    PyObject *inputs = PyTuple_New(tree->n_inputs);
    PyObject *all = inputs != NULL && tree->n_extras > 0 ? PyTuple_New(1 + tree->n_extras) : inputs;
    if (all == NULL) {
        Py_XDECREF(inputs);
        return NULL;
    }
    for (int i = 0; i < tree->n_inputs + tree->n_extras; i++) {
        int slot = tree->handed[i];
        PyObject *value = Py_NewRef(pinned != NULL && pinned[slot] != NULL ? pinned[slot] : kept[slot]);
        if (i < tree->n_inputs) {
            PyTuple_SET_ITEM(inputs, i, value);
        }
        else {
            PyTuple_SET_ITEM(all, 1 + i - tree->n_inputs, value);
        }
    }
    if (all != inputs) {
        PyTuple_SET_ITEM(all, 0, inputs);
    }
    return all;
}

/* A full walk. Code of the user's in it may change what was found before: then all of it is walked once more, and holds only
 * if it still does. Such code runs in that walk as well, for a key that has some has it in each look-up, so one that does
 * something else each time may change things again. No number of walks would prove those, and giving up would mean that
 * nothing is ever kept for a program with such keys, though next to none of them change a thing. What would be left is a
 * program whose answer hangs on how often its keys are compared; a check, which compares them itself, cannot keep that.
 * 1 or 0; `*calm` is from before the last walk. */
static int
walk_proven(lw_guard_tree *tree, const lw_scope *scope, PyObject **kept, unsigned long long *calm)
{
    *calm = lw_disturbances;
    int answer = lw_tree_holds(tree, scope, kept);
    tree->walks++;
    if (answer != 1 || *calm == lw_disturbances) {
        return answer;
    }
    release(kept, tree->n_slots, *calm); /* which may run code of the user's too, before the second walk */
    memset(kept, 0, (size_t)tree->n_slots * sizeof(PyObject *));
    *calm = lw_disturbances;
    return lw_tree_holds(tree, scope, kept);
}

/* And what follows from it for the stamps that did not tell. 1 or 0. */
static int
walk(lw_guard_tree *tree, const lw_scope *scope, PyObject **kept, lw_stamps *set, int blame)
{
    unsigned long long calm;
    int answer = walk_proven(tree, scope, kept, &calm);
    if (set != NULL && blame >= 0) {
        drop_differing(tree, set, answer == 1, blame);
    }
    if (answer == 1 && calm == lw_disturbances) { /* else what was found first may have changed since */
        record_stamps(tree, scope);
    }
    return answer;
}

static void
verify(lw_guard_tree *tree, const lw_scope *scope)
{
    unsigned long long calm = lw_disturbances;
    PyObject **kept = PyMem_Calloc((size_t)tree->n_slots + 1, sizeof(PyObject *));
    bool holds = kept == NULL || lw_tree_holds(tree, scope, kept);
    release(kept, kept != NULL ? tree->n_slots : 0, calm);
    PyMem_Free(kept);
    if (!holds && calm == lw_disturbances) { /* else code of the user's may have changed what they spoke about */
        Py_FatalError("lampwork: the stamps of a guard tree say that it holds, and it does not");
    }
}

static int
hand_over(const lw_guard_tree *tree, PyObject *const *pinned, PyObject *const *kept, PyObject **handed)
{
    if (handed == NULL || tree->n_inputs == 0) {
        return 1;
    }
    *handed = collect_handed(tree, pinned, kept);
    return *handed != NULL;
}

/* By stamps that fit the arguments. 1, 0, or -1: they do not tell; then `*blame` is of the one that differs, or -1. */
static int
check_stamps(lw_guard_tree *tree, lw_stamps *set, const lw_scope *scope, PyObject **kept, PyObject **handed, int *blame)
{
    unsigned long long calm = lw_disturbances;
    clear_open_slots(set, kept);
    int answer = lw_stamps_check(tree, set, scope, kept, blame);
    if (answer == 1 && calm != lw_disturbances) { /* as for a full walk, see walk_proven */
        release_open_slots(set, kept, calm);
        clear_open_slots(set, kept);
        calm = lw_disturbances;
        answer = lw_stamps_check(tree, set, scope, kept, blame);
    }
    tree->sweeps += answer == 1;
    if (answer == 1) {
        answer = hand_over(tree, set->kept, kept, handed); /* before anything else can run */
        if (tree->stamped == LW_STAMPS_VERIFIED) {
            verify(tree, scope);
        }
    }
    release_open_slots(set, kept, calm);
    return answer;
}

/* 1 or 0. `*handed` is set if the tree holds and has something to hand over, and that is wanted. */
static int
check_tree(lw_guard_tree *tree, const lw_scope *scope, PyObject **handed)
{
    PyObject *small[256];
    PyObject **kept = tree->n_slots <= 256 ? small : PyMem_Malloc((size_t)tree->n_slots * sizeof(PyObject *));
    if (kept == NULL) {
        return 0;
    }
    unsigned long long calm = lw_disturbances;
    int blame = -1;
    lw_stamps *set = find_stamps(tree, scope);
    int answer = -1;
    if (set != NULL) {
        set->users++; /* it may be dropped meanwhile, not freed */
        answer = check_stamps(tree, set, scope, kept, handed, &blame);
    }
    if (answer < 0) {
        memset(kept, 0, (size_t)tree->n_slots * sizeof(PyObject *));
        answer = walk(tree, scope, kept, set, blame);
        if (answer == 1) {
            answer = hand_over(tree, NULL, kept, handed);
        }
        release(kept, tree->n_slots, calm);
    }
    if (set != NULL && --set->users == 0 && set->dropped) {
        lw_stamps_free(set);
    }
    if (kept != small) {
        PyMem_Free(kept);
    }
    return answer;
}

int
lw_guard_tree_check(PyObject *object, const lw_scope *scope, PyObject **handed)
{
    lw_guard_tree *tree = (lw_guard_tree *)object;
    if (tree->dead) {
        return 0;
    }
    Py_INCREF(tree); /* reading the state may run Python */
    bool holds = lw_state_matches(tree->state, tree->n_state);
    bool outer = lw_pause_collector();
    holds = holds && check_tree(tree, scope, handed) == 1;
    lw_resume_collector(outer);
    if (PyErr_Occurred()) {
        PyErr_Clear();
        holds = false;
    }
    holds = holds && !tree->dead;
    Py_DECREF(tree);
    if (!holds && handed != NULL) {
        Py_CLEAR(*handed);
    }
    return holds;
}
