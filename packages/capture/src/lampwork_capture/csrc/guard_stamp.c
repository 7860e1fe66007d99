/* Checking by stamps: a tree that held once holds again if the words that prove it are as they were.
 *
 * One linear sweep, without calls and without looking anything up; then what no stamp covers is walked as ever. Whatever
 * the stamps do not tell the full walk decides, so they can only save time. Invariants: a word is read only after those
 * before it were found unchanged, which proves its memory alive; during a sweep nothing else runs; after code of the user's
 * has run (a disturbance) only another sweep proves it again.
 */
#include "guard_stamp.h"
#include <stddef.h>
#include <stdlib.h>

_Static_assert(offsetof(PyTypeObject, tp_version_tag) % 8 == 0 && sizeof(void *) == 8, "stamps are made for 64-bit words");

bool
lw_stamps_fit(const lw_stamps *set, const lw_scope *scope)
{
    for (int i = 0; i < set->pins.n; i++) {
        const lw_pin *pin = &set->pins.items[i];
        if (pin->slot >= scope->n_slots || scope->slots[pin->slot] != pin->value) {
            return false;
        }
    }
    for (int i = 0; i < set->cells.n; i++) {
        const lw_pin *pin = &set->cells.items[i];
        if (pin->slot >= scope->n_cells || scope->cells[pin->slot] != pin->value) {
            return false;
        }
    }
    return (set->globals == NULL || set->globals == scope->globals)
           && (set->builtins == NULL || set->builtins == scope->builtins)
           && (set->modules == NULL || set->modules == PyImport_GetModuleDict());
}

static bool
reading_holds(const lw_guard_tree *tree, const lw_reading *reading, const lw_scope *scope)
{
    unsigned long long calm = lw_disturbances;
    PyObject *value = lw_read_node(&tree->nodes[reading->node], reading->base, scope);
    bool same = value == reading->value;
    lw_release(value, calm);
    return same;
}

/* What to blame for the first stamp that differs, or -1. */
static int
sweep(const lw_guard_tree *tree, const lw_stamps *set, const lw_scope *scope)
{
    unsigned long long calm = lw_disturbances;
    const lw_stamp *stamp = set->stamps.items, *end = stamp + set->stamps.n;
    for (; stamp < end; stamp++) {
        if (stamp->word != NULL) {
            if (lw_load_word(stamp->word) != stamp->expected) {
                break;
            }
        }
        else if (!reading_holds(tree, &set->readings.items[stamp->expected], scope) || calm != lw_disturbances) {
            break;
        }
    }
    if (stamp != end) {
        return set->blames.items[stamp - set->stamps.items];
    }
    int differing = lw_tensor_stamps_check(set->tensors.items, set->tensors.n);
    return differing < 0 ? -1 : 2 * set->tensors.items[differing].node + (int)LW_BLAME_VALUE;
}

static bool
relation_holds(const lw_open_relation *open, const lw_stamps *set, PyObject **kept)
{
    const lw_relation *relation = open->relation;
    if (relation->kind != LW_RELATION_DISTINCT) {
        PyObject *values[MOST_NUMBERS]; /* SAME relates two */
        for (int i = 0; i < relation->n; i++) {
            int slot = relation->slots[i];
            values[i] = set->kept[slot] != NULL ? set->kept[slot] : kept[slot];
        }
        return relation->kind == LW_RELATION_SAME ? values[0] == values[1] : lw_scalar_holds(relation->program, values);
    }
    for (int i = 0; i < open->n_slots; i++) {
        uintptr_t address = (uintptr_t)kept[open->slots[i]];
        if (bsearch(&address, open->addresses, (size_t)open->n_addresses, sizeof(uintptr_t), lw_compare_addresses) != NULL) {
            return false;
        }
        for (int j = 0; j < i; j++) {
            if (kept[open->slots[j]] == (PyObject *)address) {
                return false;
            }
        }
    }
    return true;
}

static bool
recheck_holds(const lw_guard_tree *tree, const lw_recheck *recheck)
{
    unsigned long long calm = lw_disturbances;
    Py_INCREF(recheck->value);
    bool holds = lw_check_holds(&tree->checks[recheck->check], recheck->value);
    lw_release(recheck->value, calm);
    return holds;
}

/* Whether the stamps, once swept, still prove what they point to. */
static bool
proven_still(const lw_guard_tree *tree, const lw_stamps *set, const lw_scope *scope, unsigned long long *calm, int *blame)
{
    if (*calm != lw_disturbances) {
        *calm = lw_disturbances;
        *blame = sweep(tree, set, scope);
    }
    return *blame < 0;
}

/* What no stamp covers; as lw_stamps_check. */
static int
rest_holds(const lw_guard_tree *tree, const lw_stamps *set, const lw_scope *scope, PyObject **kept, int *blame)
{
    unsigned long long calm = lw_disturbances;
    for (int i = 0; i < set->rechecks.n; i++) {
        if (!recheck_holds(tree, &set->rechecks.items[i])) {
            return 0;
        }
        if (!proven_still(tree, set, scope, &calm, blame)) {
            return -1;
        }
    }
    for (int i = 0; i < set->rests.n; i++) {
        lw_node *node = &tree->nodes[set->rests.items[i].node];
        if (!lw_node_holds(tree, node, lw_read_node(node, set->rests.items[i].base, scope), kept)) {
            return 0;
        }
        if (!proven_still(tree, set, scope, &calm, blame)) {
            return -1;
        }
    }
    for (int i = 0; i < set->relations.n; i++) {
        if (!relation_holds(&set->relations.items[i], set, kept)) {
            return 0;
        }
    }
    return 1;
}

int
lw_stamps_check(lw_guard_tree *tree, lw_stamps *set, const lw_scope *scope, PyObject **kept, int *blame)
{
    *blame = sweep(tree, set, scope);
    int answer = *blame >= 0 ? -1 : rest_holds(tree, set, scope, kept, blame);
    set->hits += answer == 1;
    return answer;
}
