/* Shared by the files of the guard tree. Of the user's program nothing runs here but hashes and comparisons of keys. */
#ifndef LAMPWORK_GUARD_H
#define LAMPWORK_GUARD_H
#include "native.h"
#include <string.h>

/* How the value of a node is read from that of its parent, or from the frame. Python sees the names. */
enum lw_access {
    LW_ACCESS_ARGUMENT,
    LW_ACCESS_CELL,
    LW_ACCESS_CELL_OBJECT,
    LW_ACCESS_GLOBAL,
    LW_ACCESS_BUILTIN,
    LW_ACCESS_MODULE,
    LW_ACCESS_ATTRIBUTE,
    LW_ACCESS_INDEX,
    LW_ACCESS_KEY,
    LW_ACCESS_NTH_KEY,
    LW_ACCESS_NTH_VALUE,
    LW_ACCESS_DEFAULT,
    LW_ACCESS_KEYWORD_DEFAULT,
    LW_ACCESS_CLOSURE,
    LW_ACCESS_FUNCTION_GLOBAL,
    LW_ACCESS_TYPE,
    LW_ACCESS_METHOD_FUNCTION,
    LW_ACCESS_CLASS_ATTRIBUTE,
    LW_ACCESS_COUNT
};

enum lw_check_kind {
    LW_CHECK_TYPE,
    LW_CHECK_IDENTITY,
    LW_CHECK_CONSTANT,
    LW_CHECK_TENSOR,
    LW_CHECK_LENGTH,
    LW_CHECK_DICT_KEYS,
    LW_CHECK_DICT_CONTAINS,
    LW_CHECK_ATTRIBUTE,
    LW_CHECK_INSTANCE_DICT_LACKS,
    LW_CHECK_INTEGER,
    LW_CHECK_SCALAR,
    LW_CHECK_SPECIALS,
    LW_CHECK_COUNT
};

#define LW_TABLES 3 /* of an nn.Module: parameters, buffers, modules */

/* guard_access.c: reading objects without running the user's code. Values are new references; NULL (no exception) when
 * there is no such thing, or when only user code could tell. */
int lw_access_setup(PyObject *module);
/* What all attributes of one object share, looked up once. All borrowed; valid until the object's dictionary changes. */
typedef struct {
    bool ready, plain, is_instance, has_tables;
    bool from_dict; /* of the last attribute read: it stands in one of these dictionaries */
    PyObject *dict;
    PyObject *tables[LW_TABLES]; /* of an nn.Module: parameters, buffers, modules; NULL where absent or empty */
} lw_object_view;

bool lw_plain_getattribute(PyTypeObject *type);  /* whether attributes are found as object.__getattribute__ finds them */
bool lw_read_raw_from_class(PyObject *found);    /* whether reading it from its class gives it as it stands there */
bool lw_has_module_getattr(PyTypeObject *type);  /* whether its __getattr__ is that of nn.Module */
PyObject *lw_module_table(PyObject *namespace, int i); /* parameters, buffers, modules; borrowed; NULL: none */

PyObject *lw_read_attribute(lw_object_view *view, PyObject *object, PyObject *name);
PyObject *lw_read_item(PyObject *object, Py_ssize_t index);
PyObject *lw_read_key(PyObject *object, PyObject *key);
PyObject *lw_plain_mapping(PyObject *object); /* borrowed: the dict that a read-only view of one shows, else the object */

/* When an object's attributes need not be looked up again: type and dictionaries are as they were. Dictionary versions are
 * unique over all dictionaries, so an equal one means the same dictionary in the same state. */
typedef struct {
    PyTypeObject *type; /* borrowed, compared only; NULL: nothing known */
    unsigned int type_version;
    uint64_t dict_version, table_versions[LW_TABLES];
    PyObject *tables[LW_TABLES]; /* borrowed from the dictionary while its version is `dict_version` */
} lw_attribute_cache;

bool lw_attributes_unchanged(const lw_attribute_cache *cache, PyObject *object);
void lw_attributes_remember(lw_attribute_cache *cache, PyObject *object, lw_object_view *view);

int lw_has_attribute(PyObject *object, PyObject *name);      /* 1, 0, or -1: only user code could tell */
int lw_instance_dict_has(PyObject *object, PyObject *name);  /* 1 or 0 */
Py_ssize_t lw_length(PyObject *object);                      /* -1: only user code could tell */

/* versions.c: equal numbers mean that nothing has changed; 0: changes would not show */
unsigned int lw_type_version(PyTypeObject *type); /* its bases included */
uint64_t lw_dict_version(PyObject *dict);
const void *lw_dict_version_word(PyObject *dict); /* where the version stands; NULL: changes would not show */
const void *lw_dict_settle(PyObject *dict);       /* the same, after making changes show where that is possible */
PyObject **lw_dict_place(PyObject *object); /* of its pointer to its instance dictionary; NULL: objects of its class have none */

static inline uint64_t
lw_load_word(const void *address)
{
    uint64_t word;
    memcpy(&word, address, sizeof(word));
    return word;
}

/* guard_value.c */
bool lw_is_constant(PyObject *value);                        /* whether lw_same_constant is defined for it */
bool lw_same_constant(PyObject *value, PyObject *expected);  /* same type and value, bit by bit */

/* guard_scalar.c */
#define MOST_NUMBERS 32 /* in one program about several numbers */
typedef struct lw_scalar_program lw_scalar_program;
bool lw_integer_within(PyObject *value, int64_t lower, int64_t upper); /* an exact int in these bounds */
lw_scalar_program *lw_scalar_compile(PyObject *spec); /* borrows from spec; NULL with an exception; free with PyMem_Free */
bool lw_scalar_holds(const lw_scalar_program *program, PyObject *const *numbers);

/* guard_specials.c */
typedef struct lw_specials lw_specials;
lw_specials *lw_specials_compile(PyObject *names, PyObject *expected); /* borrows; NULL with an exception; PyMem_Free */
bool lw_specials_hold(lw_specials *specials, PyObject *class);

/* guard_tensor.c */
typedef struct {
    PyTypeObject *type;
    PyObject *dtype, *device, *layout;
    int dtype_code, device_index;
    bool requires_grad;
    int rank;
    int64_t *sizes;   /* rank entries, then rank strides */
    bool has_strides;
    uint64_t keys;
} lw_tensor_check;

#define LW_ANY_SIZE INT64_MIN

/* What decides whether a tensor that matches still does, as words of memory. */
#define LW_TENSOR_RANK 5   /* up to this rank sizes and strides stand in the tensor itself */
#define LW_TENSOR_BLOCK 15 /* words from the rank to the key set */
typedef struct {
    PyObject *tensor; /* all borrowed */
    PyTypeObject *type;
    const char *impl, *autograd;
    const uint64_t *block;       /* expected; shared by tensors that are alike */
    uint64_t requires_grad, grad_fn; /* of `autograd`, if there is any */
    int node;
} lw_tensor_stamp;

int lw_tensor_setup(PyObject *module);
lw_tensor_check *lw_tensor_compile(PyObject *spec); /* NULL with an exception; free with PyMem_Free */
bool lw_tensor_matches(PyObject *value, const lw_tensor_check *check);
/* Notes a tensor that matches; `block` is filled. False: only calls can tell. */
bool lw_tensor_stamp_make(PyObject *tensor, const lw_tensor_check *check, lw_tensor_stamp *stamp, uint64_t *block);
/* The first of n tensors, all alive, that is not as it was noted; -1: none. */
int lw_tensor_stamps_check(const lw_tensor_stamp *stamps, int n);

/* guard_state.c */
typedef struct lw_state_item lw_state_item;
lw_state_item *lw_state_compile(PyObject *spec, Py_ssize_t *n); /* spec: a tuple; it must outlive the items */
bool lw_state_matches(const lw_state_item *items, Py_ssize_t n);

#endif
