/* The recorder of stamps: what guard_note.c, guard_pin.c and guard_record.c share. See guard_record.c. */
#ifndef LAMPWORK_GUARD_RECORD_H
#define LAMPWORK_GUARD_RECORD_H
#include "guard_stamp.h"

typedef struct {
    lw_guard_tree *tree;
    const lw_scope *scope;
    lw_stamps *set;
    const void **seen; /* addresses noted, open addressing */
    size_t n_seen, size;
    bool failed; /* memory is short */
} lw_recorder;

typedef struct {
    PyObject *value; /* borrowed; NULL: not pinned */
    bool strong;
} lw_pinned;

/* guard_note.c */
bool lw_grow(void **items, int *capacity, size_t size);

#define PUSH(recorder, array, ...)                                                                                         \
    do {                                                                                                                   \
        lw_stamps *set_ = (recorder)->set;                                                                                 \
        if (set_->array.n < set_->array.capacity                                                                           \
            || lw_grow((void **)&set_->array.items, &set_->array.capacity, sizeof(*set_->array.items))) {                     \
            set_->array.items[set_->array.n++] = __VA_ARGS__;                                                              \
        }                                                                                                                  \
        else {                                                                                                             \
            (recorder)->failed = true;                                                                                     \
        }                                                                                                                  \
    } while (0)

/* Whether an address is seen for the first time. */
bool lw_see(lw_recorder *recorder, const void *address);
int lw_number_of(lw_recorder *recorder, const lw_node *node);
void lw_note_word(lw_recorder *recorder, const lw_node *node, enum lw_blame blame, const void *word);
void lw_note_reading(lw_recorder *recorder, const lw_node *child, PyObject *base, PyObject *value);
void lw_note_class(lw_recorder *recorder, const lw_node *node, PyObject *object);
void lw_note_class_of(lw_recorder *recorder, const lw_node *node, lw_pinned pinned); /* if it may change */
/* All that may be found in a class, and where; the class is pinned. False: not known. */
bool lw_note_version(lw_recorder *recorder, const lw_node *node, PyTypeObject *type);
/* The state of a dictionary, what keys it has and in which order; false: changes too often, or changes would not show. */
bool lw_note_dict(lw_recorder *recorder, const lw_node *node, PyObject *dict);
/* The same, and so what the look-up of a key gives; false also where code of the user's could tell other things. */
bool lw_note_look_up(lw_recorder *recorder, const lw_node *node, PyObject *dict, PyObject *key);
/* The instance dictionary of a pinned object, and what the look-up of a name in it gives; false: changes too often, or
 * code of the user's could tell. `*dict` may be NULL: has none. */
bool lw_note_name(lw_recorder *recorder, const lw_node *node, PyObject *object, PyObject *name, PyObject **dict);
/* What the look-up of a name in a table of an nn.Module gives, if it has the table, and whose instance dictionary is noted. */
bool lw_note_in_table(lw_recorder *recorder, const lw_node *node, PyObject *namespace, int i, PyObject *name);

/* guard_pin.c */
lw_pinned lw_pin_child(lw_recorder *recorder, const lw_node *parent, const lw_node *child, lw_pinned base);
lw_pinned lw_pin_root(lw_recorder *recorder, const lw_node *node);

#endif
