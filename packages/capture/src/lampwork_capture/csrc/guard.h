/* Shared by the files of the guard tree. Nothing here runs code of the user's program. */
#ifndef LAMPWORK_GUARD_H
#define LAMPWORK_GUARD_H
#include "native.h"

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
    LW_CHECK_COUNT
};

/* guard_access.c: reading objects without running the user's code. Values are new references; NULL (no exception) when
 * there is no such thing, or when only user code could tell. */
int lw_access_setup(PyObject *module);
/* What all attributes of one object share, looked up once. All borrowed; valid until the object's dictionary changes. */
typedef struct {
    bool ready, plain, is_instance, has_tables;
    bool from_dict; /* of the last attribute read: it stands in one of these dictionaries */
    PyObject *dict;
    PyObject *tables[3]; /* of an nn.Module: parameters, buffers, modules; NULL where absent or empty */
} lw_object_view;

PyObject *lw_read_attribute(lw_object_view *view, PyObject *object, PyObject *name);
PyObject *lw_read_item(PyObject *object, Py_ssize_t index);
PyObject *lw_read_key(PyObject *object, PyObject *key);
PyObject *lw_plain_mapping(PyObject *object); /* borrowed: the dict that a read-only view of one shows, else the object */

/* When an object's attributes need not be looked up again: type and dictionaries are as they were. Dictionary versions are
 * unique over all dictionaries, so an equal one means the same dictionary in the same state. */
typedef struct {
    PyTypeObject *type; /* borrowed, compared only; NULL: nothing known */
    unsigned int type_version;
    uint64_t dict_version, table_versions[3];
    PyObject *tables[3]; /* borrowed from the dictionary while its version is `dict_version` */
} lw_attribute_cache;

bool lw_attributes_unchanged(const lw_attribute_cache *cache, PyObject *object);
void lw_attributes_remember(lw_attribute_cache *cache, PyObject *object, lw_object_view *view);

int lw_has_attribute(PyObject *object, PyObject *name);      /* 1, 0, or -1: only user code could tell */
int lw_instance_dict_has(PyObject *object, PyObject *name);  /* 1 or 0 */
Py_ssize_t lw_length(PyObject *object);                      /* -1: only user code could tell */

/* versions.c: equal numbers mean that nothing has changed; 0: changes would not show */
unsigned int lw_type_version(PyTypeObject *type); /* its bases included */
uint64_t lw_dict_version(PyObject *dict);

/* guard_value.c */
bool lw_is_constant(PyObject *value);                        /* whether lw_same_constant is defined for it */
bool lw_same_constant(PyObject *value, PyObject *expected);  /* same type and value, bit by bit */

/* guard_scalar.c */
#define MOST_NUMBERS 32 /* in one program about several numbers */
typedef struct lw_scalar_program lw_scalar_program;
bool lw_integer_within(PyObject *value, int64_t lower, int64_t upper); /* an exact int in these bounds */
lw_scalar_program *lw_scalar_compile(PyObject *spec); /* borrows from spec; NULL with an exception; free with PyMem_Free */
bool lw_scalar_holds(const lw_scalar_program *program, PyObject *const *numbers);

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

int lw_tensor_setup(PyObject *module);
lw_tensor_check *lw_tensor_compile(PyObject *spec); /* NULL with an exception; free with PyMem_Free */
bool lw_tensor_matches(PyObject *value, const lw_tensor_check *check);

/* guard_state.c */
typedef struct lw_state_item lw_state_item;
lw_state_item *lw_state_compile(PyObject *spec, Py_ssize_t *n); /* spec: a tuple; it must outlive the items */
bool lw_state_matches(const lw_state_item *items, Py_ssize_t n);

#endif
