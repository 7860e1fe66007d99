/* The guard tree's own data, shared by the file that builds it and the one that walks it. */
#ifndef LAMPWORK_GUARD_TREE_H
#define LAMPWORK_GUARD_TREE_H
#include "guard.h"

typedef struct {
    enum lw_check_kind kind;
    bool flag;
    PyObject *object; /* borrowed from the tree's `held`, or kept alive by a weak reference's death notice */
    Py_ssize_t number;
    int64_t lower, upper; /* of an integer */
    lw_tensor_check *tensor;
    lw_scalar_program *program;
    lw_specials *specials;
} lw_check;

typedef struct {
    enum lw_access access;
    PyObject *key;
    Py_ssize_t index;
    int slot; /* where the value is kept for relations, or -1 */
    int first_child, next_sibling;
    int first_check, n_checks;
    bool has_attributes;      /* of the children, some are read as attributes */
    bool loose_value, loose_dict; /* it, or its dictionary, changes so often that stamps of it are no use */
    unsigned char misses;
    PyObject *remembered;     /* value of an attribute, borrowed while the parent's `attributes` are unchanged; or NULL */
    lw_attribute_cache attributes;
} lw_node;

enum lw_relation_kind {
    LW_RELATION_SAME,
    LW_RELATION_DISTINCT,
    LW_RELATION_SCALAR, /* a program about several numbers */
};

typedef struct {
    enum lw_relation_kind kind;
    int n;
    int *slots;
    lw_scalar_program *program;
} lw_relation;

typedef struct lw_guard_tree lw_guard_tree;
typedef struct lw_stamps lw_stamps;

#define LW_MAX_STAMPS 16 /* sets, one for each choice of long-lived arguments, as when layers share their code */

/* What weak references call when an object that the tree compares with dies. */
typedef struct {
    PyObject_HEAD
    lw_guard_tree *tree; /* NULL once the tree is gone */
} lw_death_notice;

struct lw_guard_tree {
    PyObject_HEAD
    PyObject *held; /* list: every object that the tree keeps alive, weak references included */
    lw_death_notice *notice;
    lw_entry *entry; /* borrowed: whose guards these are */
    lw_node *nodes;
    lw_check *checks;
    lw_relation *relations;
    lw_state_item *state;
    Py_ssize_t n_nodes, n_checks, n_relations, n_state;
    int n_slots, first_root;
    bool dead;
    int *handed; /* slots of what a successful check hands over: the graph's inputs, then others */
    int n_inputs, n_extras;
    lw_stamps *sets[LW_MAX_STAMPS]; /* most recently used first */
    int n_sets;
    bool loose_roots[LW_ACCESS_COUNT]; /* of roots read from a dictionary: it changes often */
    enum { LW_STAMPS_NEVER, LW_STAMPS_ALWAYS, LW_STAMPS_VERIFIED } stamped;
    unsigned int pause, wait;  /* successful walks until stamps are made again: next time, and left now */
    unsigned long long walks, sweeps;
};

extern PyTypeObject lw_notice_type;

/* guard_tree.c. New references. */
PyObject *lw_read_node(const lw_node *node, PyObject *base, const lw_scope *scope); /* base NULL: from the frame */
bool lw_node_holds(const lw_guard_tree *tree, lw_node *node, PyObject *value, PyObject **kept); /* takes `value` over */
bool lw_check_holds(const lw_check *check, PyObject *value); /* held by the caller */
int lw_compare_addresses(const void *a, const void *b);
bool lw_tree_holds(const lw_guard_tree *tree, const lw_scope *scope, PyObject **kept); /* a full walk */

/* guard_check.c */
void lw_drop_stamps(lw_guard_tree *tree, int index);

/* guard_compile.c */
int lw_guard_tree_fill(lw_guard_tree *tree, PyObject *nodes, PyObject *checks, PyObject *relations, PyObject *state,
                       PyObject *inputs, PyObject *extras);
void lw_guard_tree_free_arrays(lw_guard_tree *tree);

#endif
