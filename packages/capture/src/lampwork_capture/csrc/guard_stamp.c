/* Checking by stamps: a tree that held once holds again if the words that prove it are as they were.
 *
 * One linear sweep, without calls and without looking anything up; then what no stamp covers is walked as ever. Whatever
 * the stamps do not tell the full walk decides, so they can only save time. Invariants: a word is read only after those
 * before it were found unchanged, which proves its memory alive; during a sweep nothing else runs.
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
    PyObject *value = lw_read_node(&tree->nodes[reading->node], reading->base, scope);
    Py_XDECREF(value); /* where it was read from holds it too */
    return value == reading->value;
}

/* What to blame for the first stamp that differs, or -1. */
static int
sweep(const lw_guard_tree *tree, const lw_stamps *set, const lw_scope *scope)
{
    const lw_stamp *stamp = set->stamps.items, *end = stamp + set->stamps.n;
    for (; stamp < end; stamp++) {
        if (stamp->word != NULL) {
            if (lw_load_word(stamp->word) != stamp->expected) {
                break;
            }
        }
        else if (!reading_holds(tree, &set->readings.items[stamp->expected], scope)) {
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

/* What no stamp covers. */
static bool
rest_holds(const lw_guard_tree *tree, const lw_stamps *set, const lw_scope *scope, PyObject **kept)
{
    for (int i = 0; i < set->rechecks.n; i++) {
        if (!lw_check_holds(&tree->checks[set->rechecks.items[i].check], set->rechecks.items[i].value)) {
            return false;
        }
    }
    for (int i = 0; i < set->rests.n; i++) {
        lw_node *node = &tree->nodes[set->rests.items[i].node];
        if (!lw_node_holds(tree, node, lw_read_node(node, set->rests.items[i].base, scope), kept)) {
            return false;
        }
    }
    for (int i = 0; i < set->relations.n; i++) {
        if (!relation_holds(&set->relations.items[i], set, kept)) {
            return false;
        }
    }
    return true;
}

int
lw_stamps_check(lw_guard_tree *tree, lw_stamps *set, const lw_scope *scope, PyObject **kept, int *blame)
{
    *blame = sweep(tree, set, scope);
    int answer = *blame >= 0 ? -1 : rest_holds(tree, set, scope, kept);
    set->hits += answer == 1;
    return answer;
}
