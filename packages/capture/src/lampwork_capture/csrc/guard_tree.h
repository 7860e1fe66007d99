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
} lw_check;

typedef struct {
    enum lw_access access;
    PyObject *key;
    Py_ssize_t index;
    int slot; /* where the value is kept for relations, or -1 */
    int first_child, next_sibling;
    int first_check, n_checks;
    bool has_attributes;      /* of the children, some are read as attributes */
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
};

extern PyTypeObject lw_notice_type;

/* guard_compile.c */
int lw_guard_tree_fill(lw_guard_tree *tree, PyObject *nodes, PyObject *checks, PyObject *relations, PyObject *state);
void lw_guard_tree_free_arrays(lw_guard_tree *tree);

#endif
