/* Stamps: what proves, word by word, that a guard tree which held once holds again. See guard_stamp.c. */
#ifndef LAMPWORK_GUARD_STAMP_H
#define LAMPWORK_GUARD_STAMP_H
#include "guard_tree.h"

/* What is given up when a stamp differs again and again although the tree holds. */
enum lw_blame { LW_BLAME_VALUE, LW_BLAME_DICT };

/* One word of memory and what it was. `word` NULL: `expected` numbers a reading instead. */
typedef struct {
    const void *word;
    uint64_t expected;
} lw_stamp;

/* A child that is read anew, since its parent changes often, but must be the object that it was. */
typedef struct {
    int node;
    PyObject *base, *value;
} lw_reading;

/* A subtree that is walked in every call; base NULL: from the frame. */
typedef struct {
    int node;
    PyObject *base;
} lw_rest;

/* A check that is made in every call, of an object that is proven to be there. */
typedef struct {
    int check;
    PyObject *value;
} lw_recheck;

/* An argument, or a cell, that must be the object that it was. */
typedef struct {
    Py_ssize_t slot;
    PyObject *value;
} lw_pin;

/* A relation of which some members are read in every call. The addresses of the others are sorted. */
typedef struct {
    const lw_relation *relation;
    uintptr_t *addresses;
    int *slots; /* of those that are read */
    int n_addresses, n_slots;
} lw_open_relation;

#define LW_ARRAY(type) struct { type *items; int n, capacity; }

/* All pointers are borrowed: what a stamp names is alive while the stamps in front of it hold. */
struct lw_stamps {
    int users;    /* checks that are running on it */
    bool dropped; /* freed when the last of them ends */
    unsigned long hits;
    PyObject *globals, *builtins, *modules; /* NULL where nothing was read from it */
    LW_ARRAY(lw_pin) pins;
    LW_ARRAY(lw_pin) cells; /* of the frame's free variables */
    LW_ARRAY(lw_stamp) stamps;
    LW_ARRAY(int) blames; /* of each stamp: 2 * node + what to blame */
    LW_ARRAY(lw_tensor_stamp) tensors; /* looked at after all other stamps */
    LW_ARRAY(uint64_t *) blocks;
    LW_ARRAY(lw_reading) readings;
    LW_ARRAY(lw_rest) rests;
    LW_ARRAY(lw_recheck) rechecks;
    LW_ARRAY(lw_open_relation) relations;
    PyObject **kept; /* by slot of the tree; NULL: read in every call */
    LW_ARRAY(int) open_slots;
};

/* guard_record.c: NULL (no exception) if memory is short. The tree has just held for this scope, and nothing has run since. */
lw_stamps *lw_stamps_record(lw_guard_tree *tree, const lw_scope *scope);
void lw_stamps_free(lw_stamps *set);

/* guard_stamp.c */
bool lw_stamps_fit(const lw_stamps *set, const lw_scope *scope);
/* 1: the tree holds, `kept` has what was read (new references) for the open slots, NULL before; 0: it does not; -1: the
 * stamps do not tell. */
int lw_stamps_check(lw_guard_tree *tree, lw_stamps *set, const lw_scope *scope, PyObject **kept, int *blame);

#endif
