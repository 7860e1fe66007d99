/* Shared by the files of the guard tree. Of the user's program nothing runs here but hashes and comparisons of keys, in the
 * look-ups of guard_dict.c. */
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
    LW_ACCESS_SIZE, /* of a tensor, a new int */
    LW_ACCESS_STRIDE,
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
    LW_CHECK_TYPE_AMONG,
    LW_CHECK_COUNT
};

#define LW_TABLES 3 /* of an nn.Module: parameters, buffers, modules */

/* guard_dict.c: looking keys up */
extern unsigned long long lw_disturbances; /* so far: what was borrowed from objects of the user's before one is not good */
/* A finalizer must not run amid borrowed references; code of the user's in a disturbance may. The answer, whether a check
 * around this one had paused it, is for the other. */
bool lw_pause_collector(void);
void lw_resume_collector(bool outer);
void lw_release_disturbed(PyObject *value);

/* Let go of what has been held since there were `calm` disturbances: if others came, it may die, which is one as well. */
static inline void
lw_release(PyObject *value, unsigned long long calm)
{
    if (value != NULL && calm != lw_disturbances) {
        lw_release_disturbed(value);
    }
    else {
        Py_XDECREF(value); /* the user's objects hold it, or nobody ever did */
    }
}

/* A new reference; NULL: there is none or, with an exception, only code of the user's can tell and raises. */
PyObject *lw_dict_get(PyObject *dict, PyObject *key);
PyObject *lw_dict_peek(PyObject *dict, PyObject *key); /* borrowed, never a disturbance; NULL: none, or only that could tell */
int lw_dict_has(PyObject *dict, PyObject *key); /* 1, 0, or -1 with an exception */
int lw_set_has(PyObject *set, PyObject *key);   /* the same */
PyObject *lw_keys_in_order(PyObject *container); /* of a set or an OrderedDict: a new tuple, or NULL; runs nothing */
bool lw_dict_is_plain(PyObject *dict);     /* no look-up of a plain key runs code, ever: equal versions mean equal answers */
bool lw_look_up_is_plain(PyObject *dict, PyObject *key); /* nor does this one, whatever other keys there are */
bool lw_type_is_plain(PyTypeObject *type); /* nor does one of a name in this class and its bases */

/* hash_tables.c: the stored keys of this hash, in the order of a look-up, until a visitor answers false */
typedef bool (*lw_visitor)(PyObject *key, void *context);
void lw_visit_dict(PyObject *dict, Py_hash_t hash, lw_visitor visit, void *context); /* not one of text keys only */
void lw_visit_set(PyObject *set, Py_hash_t hash, lw_visitor visit, void *context);
PyObject *lw_ordered_dict_keys(PyObject *object); /* in its own order: a new tuple, or NULL where that cannot be told */

/* guard_access.c: reading objects without running the user's code. Values are new references; NULL (no exception) when
 * there is no such thing, or when only user code could tell. */
int lw_access_setup(PyObject *module);
/* What all attributes of one object share, looked up once and again after a disturbance; holds the dictionaries until it is
 * closed. Starts as zeros. */
typedef struct {
    unsigned long long calm; /* lw_disturbances when it was looked up */
    bool ready, plain, is_instance, has_tables;
    bool from_dict; /* of the last attribute read: it stands in one of these dictionaries */
    PyObject *dict;
    PyObject *tables[LW_TABLES]; /* of an nn.Module: parameters, buffers, modules; NULL where absent or empty */
} lw_object_view;
void lw_close_view(lw_object_view *view);

/* Whether attributes are found as object.__getattribute__ finds them, with no code of the user's run in the class. */
bool lw_plain_getattribute(PyTypeObject *type);
bool lw_read_raw_from_class(PyObject *found);    /* whether reading it from its class gives it as it stands there */
bool lw_has_module_getattr(PyTypeObject *type);  /* whether its __getattr__ is that of nn.Module */
PyObject *lw_module_table(PyObject *namespace, int i); /* parameters, buffers, modules: as lw_dict_peek gives it */
bool lw_module_table_is_plain(PyObject *namespace, int i); /* whether that look-up is, see lw_look_up_is_plain */

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
int lw_instance_dict_has(PyObject *object, PyObject *name);  /* the same */
Py_ssize_t lw_length(PyObject *object);                      /* -1: only user code could tell */

/* versions.c: equal numbers mean that nothing has changed; 0: changes would not show */
int lw_versions_setup(void);
unsigned int lw_type_version(PyTypeObject *type); /* its bases included */
void lw_type_settle(PyTypeObject *type); /* gives it a version, if there are any left; its namespaces are plain */
PyObject *lw_type_namespace(PyTypeObject *type);  /* its own dictionary; a new reference or NULL */
bool lw_dict_has_text_keys(PyObject *dict);       /* surely: its keys are exact str */
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
bool lw_is_device(PyTypeObject *type);                       /* torch.device */

/* guard_scalar.c */
#define MOST_NUMBERS 32 /* in one program about several numbers */
typedef struct lw_scalar_program lw_scalar_program;
bool lw_integer_within(PyObject *value, int64_t lower, int64_t upper); /* an exact int in these bounds */
lw_scalar_program *lw_scalar_compile(PyObject *spec); /* borrows from spec; NULL with an exception; free with PyMem_Free */
bool lw_scalar_holds(const lw_scalar_program *program, PyObject *const *numbers);

/* guard_specials.c */
typedef struct lw_specials lw_specials;
lw_specials *lw_specials_compile(PyObject *places, PyObject *expected); /* borrows; NULL with an exception */
void lw_specials_free(lw_specials *specials);
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
#define LW_MOST_DIMENSIONS 64
#define LW_BEHIND (INT64_MIN + 1) /* + d, a stride: that of dimension d times its size, as if nothing lay between */

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
PyObject *lw_tensor_number(PyObject *value, bool of_stride, Py_ssize_t dimension); /* a new int; NULL (no exception): none */
/* Notes a tensor that matches; `block` is filled. False: only calls can tell. */
bool lw_tensor_stamp_make(PyObject *tensor, const lw_tensor_check *check, lw_tensor_stamp *stamp, uint64_t *block);
/* The first of n tensors, all alive, that is not as it was noted; -1: none. */
int lw_tensor_stamps_check(const lw_tensor_stamp *stamps, int n);

/* guard_state.c */
typedef struct lw_state_item lw_state_item;
lw_state_item *lw_state_compile(PyObject *spec, Py_ssize_t *n); /* spec: a tuple; it must outlive the items */
bool lw_state_matches(const lw_state_item *items, Py_ssize_t n);

#endif
