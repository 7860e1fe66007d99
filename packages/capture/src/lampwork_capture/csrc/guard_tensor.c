/* Tensor checks without linking torch: sizes, strides, dtype and device come from torch's stable C shim
 * (aoti_torch_get_*), whose addresses Python hands over; the dispatch keys are read at an offset that Python has probed
 * and verified against torch's own answers. Without them the same facts are read through torch's Python getters.
 *
 * Invariant: the exact Python type is compared first, and the key set before anything that could run code of a subclass.
 */
#include "guard.h"
#include <string.h>

typedef int32_t (*lw_get_int)(void *, int32_t *);
typedef int32_t (*lw_get_long)(void *, int64_t *);
typedef int32_t (*lw_get_longs)(void *, int64_t **);

static struct {
    bool ready;
    Py_ssize_t tensor_offset; /* of the at::Tensor in its Python object */
    Py_ssize_t keys_offset;   /* of the key set in the TensorImpl */
    lw_get_long rank;
    lw_get_longs sizes, strides;
    lw_get_int dtype, device_type, device_index;
} fast;

/* Where a TensorImpl keeps what the facts speak about, in bytes; of autograd's data in its own block. */
static struct {
    bool ready;
    Py_ssize_t rank, autograd; /* from the rank on: sizes, strides, dtype, device and key set, in one block */
    Py_ssize_t requires_grad, grad_fn;
} layout_of;

/* Getters of torch.Tensor, by C function: no descriptor call, no attribute look-up. */
static PyGetSetDef *get_requires_grad, *get_dtype, *get_device, *get_layout, *get_shape;
static PyObject *method_stride, *function_keys; /* slow way only */
static PyTypeObject *base_of_tensors;

static void *
impl_of(PyObject *tensor)
{
    return *(void **)((char *)tensor + fast.tensor_offset);
}

static inline bool
stride_matches(int64_t wanted, int64_t found, const int64_t *sizes, const int64_t *strides)
{
    if (wanted == found || wanted == LW_ANY_SIZE) {
        return true;
    }
    int64_t behind = wanted - LW_BEHIND;
    return behind >= 0 && behind < LW_MOST_DIMENSIONS && found == sizes[behind] * strides[behind];
}

static bool
same_sizes(const int64_t *found, const lw_tensor_check *check)
{
    for (int i = 0; i < check->rank; i++) {
        if (check->sizes[i] != found[i] && check->sizes[i] != LW_ANY_SIZE) {
            return false;
        }
    }
    return true;
}

static bool
same_strides(const int64_t *sizes, const int64_t *found, const lw_tensor_check *check)
{
    for (int i = 0; i < check->rank; i++) {
        if (!stride_matches(check->sizes[check->rank + i], found[i], sizes, found)) {
            return false;
        }
    }
    return true;
}

static bool
fast_matches(PyObject *tensor, const lw_tensor_check *check)
{
    void *impl = impl_of(tensor);
    if (impl == NULL || *(uint64_t *)((char *)impl + fast.keys_offset) != check->keys) {
        return false;
    }
    void *handle = (char *)tensor + fast.tensor_offset;
    int64_t rank, *values;
    int32_t number;
    if (fast.rank(handle, &rank) != 0 || rank != check->rank) {
        return false;
    }
    if (fast.dtype(handle, &number) != 0 || number != check->dtype_code) {
        return false;
    }
    if (rank > 0) {
        if (fast.sizes(handle, &values) != 0) {
            return false;
        }
        if (!same_sizes(values, check)) {
            return false;
        }
        int64_t *strides;
        if (check->has_strides && (fast.strides(handle, &strides) != 0 || !same_strides(values, strides, check))) {
            return false;
        }
    }
    /* The key set has the kind of device. */
    return fast.device_index(handle, &number) == 0 && number == check->device_index;
}

static bool
read_longs(PyObject *values, int64_t *into, int n)
{
    if (values == NULL || !PyTuple_Check(values) || PyTuple_GET_SIZE(values) != n || n > LW_MOST_DIMENSIONS) {
        return false;
    }
    for (int i = 0; i < n; i++) {
        PyObject *item = PyTuple_GET_ITEM(values, i);
        if (!PyLong_CheckExact(item)) {
            return false;
        }
        into[i] = PyLong_AsLongLong(item);
        if (into[i] == -1 && PyErr_Occurred()) {
            return false;
        }
    }
    return true;
}

static bool
slow_matches(PyObject *tensor, const lw_tensor_check *check)
{
    bool same = false;
    PyObject *keys = NULL, *raw = NULL, *shape = NULL, *strides = NULL, *dtype = NULL, *device = NULL;
    int64_t sizes[LW_MOST_DIMENSIONS], steps[LW_MOST_DIMENSIONS];
    if (get_shape == NULL || function_keys == NULL) {
        return false; /* never configured */
    }
    keys = PyObject_CallOneArg(function_keys, tensor);
    raw = keys != NULL ? PyObject_CallMethod(keys, "raw_repr", NULL) : NULL;
    if (raw == NULL || PyLong_AsUnsignedLongLongMask(raw) != check->keys) {
        goto done;
    }
    dtype = get_dtype->get(tensor, get_dtype->closure);
    device = get_device->get(tensor, get_device->closure);
    shape = get_shape->get(tensor, get_shape->closure);
    if (dtype != check->dtype || device == NULL || !lw_same_constant(device, check->device)
        || !read_longs(shape, sizes, check->rank) || !same_sizes(sizes, check)) {
        goto done;
    }
    if (check->has_strides) {
        strides = PyObject_CallOneArg(method_stride, tensor);
        if (!read_longs(strides, steps, check->rank) || !same_strides(sizes, steps, check)) {
            goto done;
        }
    }
    same = true;
done:
    Py_XDECREF(keys);
    Py_XDECREF(raw);
    Py_XDECREF(shape);
    Py_XDECREF(strides);
    Py_XDECREF(dtype);
    Py_XDECREF(device);
    return same;
}

static bool
getter_gives(PyGetSetDef *getter, PyObject *tensor, PyObject *wanted)
{
    PyObject *value = getter->get(tensor, getter->closure);
    Py_XDECREF(value); /* compared with an object that is alive */
    return value == wanted;
}

bool
lw_tensor_matches(PyObject *tensor, const lw_tensor_check *check)
{
    if (Py_TYPE(tensor) != check->type || get_requires_grad == NULL) {
        return false;
    }
    bool same = (fast.ready ? fast_matches(tensor, check) : slow_matches(tensor, check))
                && getter_gives(get_requires_grad, tensor, check->requires_grad ? Py_True : Py_False)
                && (check->has_strides || getter_gives(get_layout, tensor, check->layout));
    if (!same) {
        PyErr_Clear();
    }
    return same;
}

/* By torch's own getters, where there is no faster way. */
static PyObject *
number_by_getter(PyObject *tensor, bool of_stride, Py_ssize_t dimension)
{
    PyObject *all = of_stride ? PyObject_CallOneArg(method_stride, tensor) : get_shape->get(tensor, get_shape->closure);
    PyObject *found = NULL;
    if (all != NULL && PyTuple_Check(all) && dimension >= 0 && dimension < PyTuple_GET_SIZE(all)) {
        found = Py_NewRef(PyTuple_GET_ITEM(all, dimension));
    }
    Py_XDECREF(all);
    PyErr_Clear();
    return found;
}

PyObject *
lw_tensor_number(PyObject *tensor, bool of_stride, Py_ssize_t dimension)
{
    if (base_of_tensors == NULL || !PyType_IsSubtype(Py_TYPE(tensor), base_of_tensors)) {
        return NULL;
    }
    if (!fast.ready || impl_of(tensor) == NULL) {
        return number_by_getter(tensor, of_stride, dimension);
    }
    void *handle = (char *)tensor + fast.tensor_offset;
    int64_t rank, *values;
    if (fast.rank(handle, &rank) != 0 || dimension < 0 || dimension >= rank) {
        return NULL;
    }
    if ((of_stride ? fast.strides : fast.sizes)(handle, &values) != 0) {
        return NULL;
    }
    PyObject *number = PyLong_FromLongLong(values[dimension]);
    PyErr_Clear();
    return number;
}

/* The first byte of the word is the flag. Where it is set, `grad_fn` decides nothing. */
static inline bool
flag_is_set(uint64_t word)
{
    return *(const uint8_t *)&word != 0;
}

bool
lw_tensor_stamp_make(PyObject *tensor, const lw_tensor_check *check, lw_tensor_stamp *stamp, uint64_t *block)
{
    if (!fast.ready || !layout_of.ready || !check->has_strides || check->rank > LW_TENSOR_RANK) {
        return false;
    }
    const char *impl = impl_of(tensor);
    stamp->tensor = tensor;
    stamp->type = Py_TYPE(tensor);
    stamp->impl = impl;
    stamp->block = block;
    memcpy(block, impl + layout_of.rank, LW_TENSOR_BLOCK * sizeof(uint64_t));
    memcpy(&stamp->autograd, impl + layout_of.autograd, sizeof(void *));
    stamp->requires_grad = stamp->grad_fn = 0;
    if (stamp->autograd != NULL) {
        memcpy(&stamp->requires_grad, stamp->autograd + layout_of.requires_grad, sizeof(uint64_t));
        memcpy(&stamp->grad_fn, stamp->autograd + layout_of.grad_fn, sizeof(uint64_t));
    }
    return true;
}

typedef uint64_t lw_words __attribute__((vector_size(16)));

static inline lw_words
load_words(const void *address)
{
    lw_words words;
    memcpy(&words, address, sizeof(words));
    return words;
}

static inline bool
blocks_differ(const char *a, const char *b)
{
    lw_words differing = load_words(a) ^ load_words(b);
#pragma GCC unroll 8
    for (size_t i = sizeof(lw_words); i + sizeof(lw_words) <= LW_TENSOR_BLOCK * 8; i += sizeof(lw_words)) {
        differing |= load_words(a + i) ^ load_words(b + i);
    }
    size_t last = LW_TENSOR_BLOCK * 8 - sizeof(lw_words); /* overlaps the one before */
    differing |= load_words(a + last) ^ load_words(b + last);
    return (differing[0] | differing[1]) != 0;
}

static inline bool
stamp_holds(const lw_tensor_stamp *stamp)
{
    if (Py_TYPE(stamp->tensor) != stamp->type || impl_of(stamp->tensor) != stamp->impl) {
        return false;
    }
    const char *autograd;
    uint64_t word;
    memcpy(&autograd, stamp->impl + layout_of.autograd, sizeof(void *));
    if (autograd != stamp->autograd || blocks_differ(stamp->impl + layout_of.rank, (const char *)stamp->block)) {
        return false;
    }
    if (autograd == NULL) {
        return true;
    }
    memcpy(&word, autograd + layout_of.requires_grad, sizeof(word));
    if (word != stamp->requires_grad) {
        return false;
    }
    if (flag_is_set(word)) {
        return true;
    }
    memcpy(&word, autograd + layout_of.grad_fn, sizeof(word));
    return word == stamp->grad_fn;
}

int
lw_tensor_stamps_check(const lw_tensor_stamp *stamps, int n)
{
    for (int i = 0; i < n; i++) {
        if (!stamp_holds(stamps + i)) {
            return i;
        }
    }
    return -1;
}

static int
fill_sizes(PyObject *values, int64_t *into)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(values); i++) {
        PyObject *item = PyTuple_GET_ITEM(values, i);
        if (item == Py_None) {
            into[i] = LW_ANY_SIZE;
            continue;
        }
        bool behind = PyTuple_Check(item) && PyTuple_GET_SIZE(item) == 1;
        into[i] = PyLong_AsLongLong(behind ? PyTuple_GET_ITEM(item, 0) : item);
        if (behind && (into[i] < 0 || into[i] >= PyTuple_GET_SIZE(values))) {
            PyErr_SetString(PyExc_ValueError, "tensor check: a stride behind a dimension that there is not");
            return -1;
        }
        if (behind) {
            into[i] += LW_BEHIND;
            continue;
        }
        if (into[i] == -1 && PyErr_Occurred()) {
            return -1;
        }
    }
    return 0;
}

lw_tensor_check *
lw_tensor_compile(PyObject *spec)
{
    PyObject *type, *dtype, *device, *layout, *sizes, *strides;
    int requires_grad, dtype_code, device_index;
    unsigned long long keys;
    if (!PyArg_ParseTuple(spec, "O!OOOpO!OKii:tensor check", &PyType_Type, &type, &dtype, &device, &layout, &requires_grad,
                          &PyTuple_Type, &sizes, &strides, &keys, &dtype_code, &device_index)) {
        return NULL;
    }
    Py_ssize_t rank = PyTuple_GET_SIZE(sizes);
    if (rank > LW_MOST_DIMENSIONS) {
        PyErr_SetString(PyExc_ValueError, "tensor check: too many dimensions");
        return NULL;
    }
    if (strides != Py_None && (!PyTuple_Check(strides) || PyTuple_GET_SIZE(strides) != rank)) {
        PyErr_SetString(PyExc_ValueError, "tensor check: strides must be None or a tuple as long as the sizes");
        return NULL;
    }
    lw_tensor_check *check = PyMem_Calloc(1, sizeof(*check) + (size_t)(2 * rank) * sizeof(int64_t));
    if (check == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    check->type = (PyTypeObject *)type;
    check->dtype = dtype;
    check->device = device;
    check->layout = layout;
    check->requires_grad = requires_grad != 0;
    check->rank = (int)rank;
    check->sizes = (int64_t *)(check + 1);
    check->has_strides = strides != Py_None;
    check->keys = keys;
    check->dtype_code = dtype_code;
    check->device_index = device_index;
    if (fill_sizes(sizes, check->sizes) < 0 || (check->has_strides && fill_sizes(strides, check->sizes + rank) < 0)) {
        PyMem_Free(check);
        return NULL;
    }
    return check;
}

/* Set-up from Python */

static PyGetSetDef *
getter_of(PyObject *base, const char *name)
{
    PyObject *descriptor = PyObject_GetAttrString(base, name);
    if (descriptor == NULL || !Py_IS_TYPE(descriptor, &PyGetSetDescr_Type)) {
        PyErr_Format(PyExc_TypeError, "torch.Tensor.%s is not the C getter it was", name);
        Py_XDECREF(descriptor);
        return NULL;
    }
    PyGetSetDef *definition = ((PyGetSetDescrObject *)descriptor)->d_getset;
    Py_DECREF(descriptor);
    return definition;
}

static PyObject *
native_set_tensor_getters(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *base, *stride, *keys;
    if (!PyArg_ParseTuple(args, "OOO:set_tensor_getters", &base, &stride, &keys)) {
        return NULL;
    }
    get_requires_grad = getter_of(base, "requires_grad");
    get_dtype = get_requires_grad ? getter_of(base, "dtype") : NULL;
    get_device = get_dtype ? getter_of(base, "device") : NULL;
    get_layout = get_device ? getter_of(base, "layout") : NULL;
    get_shape = get_layout ? getter_of(base, "shape") : NULL;
    if (get_shape == NULL) {
        get_requires_grad = NULL;
        return NULL;
    }
    if (!PyType_Check(base)) {
        get_requires_grad = NULL;
        PyErr_SetString(PyExc_TypeError, "the base of tensors is no class");
        return NULL;
    }
    Py_XSETREF(base_of_tensors, (PyTypeObject *)Py_NewRef(base));
    Py_XSETREF(method_stride, Py_NewRef(stride));
    Py_XSETREF(function_keys, Py_NewRef(keys));
    Py_RETURN_NONE;
}

static PyObject *
native_set_tensor_access(PyObject *module, PyObject *args)
{
    (void)module;
    Py_ssize_t tensor_offset, keys_offset;
    unsigned long long rank, sizes, strides, dtype, device_type, device_index;
    if (!PyArg_ParseTuple(args, "nn(KKKKKK):set_tensor_access", &tensor_offset, &keys_offset, &rank, &sizes, &strides, &dtype,
                          &device_type, &device_index)) {
        return NULL;
    }
    fast.tensor_offset = tensor_offset;
    fast.keys_offset = keys_offset;
    fast.rank = (lw_get_long)(uintptr_t)rank;
    fast.sizes = (lw_get_longs)(uintptr_t)sizes;
    fast.strides = (lw_get_longs)(uintptr_t)strides;
    fast.dtype = (lw_get_int)(uintptr_t)dtype;
    fast.device_type = (lw_get_int)(uintptr_t)device_type;
    fast.device_index = (lw_get_int)(uintptr_t)device_index;
    fast.ready = rank && sizes && strides && dtype && device_type && device_index;
    Py_RETURN_NONE;
}

static PyObject *
native_set_tensor_layout(PyObject *module, PyObject *args)
{
    (void)module;
    int ready;
    if (!PyArg_ParseTuple(args, "pnnnn:set_tensor_layout", &ready, &layout_of.rank, &layout_of.autograd,
                          &layout_of.requires_grad, &layout_of.grad_fn)) {
        return NULL;
    }
    layout_of.ready = ready != 0;
    Py_RETURN_NONE;
}

/* words(address, n): for probing. Only ever called on objects that are larger than that. */
static PyObject *
native_words(PyObject *module, PyObject *args)
{
    (void)module;
    unsigned long long address;
    Py_ssize_t n;
    if (!PyArg_ParseTuple(args, "Kn:words", &address, &n)) {
        return NULL;
    }
    PyObject *result = PyTuple_New(n);
    for (Py_ssize_t i = 0; result != NULL && i < n; i++) {
        uint64_t word;
        memcpy(&word, (char *)(uintptr_t)address + 8 * i, 8);
        PyObject *number = PyLong_FromUnsignedLongLong(word);
        if (number == NULL) {
            Py_CLEAR(result);
            break;
        }
        PyTuple_SET_ITEM(result, i, number);
    }
    return result;
}

static PyObject *
native_tensor_facts(PyObject *module, PyObject *tensor)
{
    (void)module;
    if (!fast.ready) {
        Py_RETURN_NONE;
    }
    void *handle = (char *)tensor + fast.tensor_offset;
    int64_t rank = 0, *sizes = NULL, *strides = NULL;
    int32_t dtype = -1, device_type = -1, device_index = -1;
    if (impl_of(tensor) == NULL || fast.rank(handle, &rank) || fast.dtype(handle, &dtype)
        || fast.device_type(handle, &device_type) || fast.device_index(handle, &device_index)
        || fast.sizes(handle, &sizes)) {
        Py_RETURN_NONE;
    }
    unsigned long long keys = *(uint64_t *)((char *)impl_of(tensor) + fast.keys_offset);
    PyObject *size_tuple = PyTuple_New(rank);
    for (int64_t i = 0; size_tuple != NULL && i < rank; i++) {
        PyTuple_SET_ITEM(size_tuple, i, PyLong_FromLongLong(sizes[i]));
    }
    (void)strides;
    return size_tuple == NULL ? NULL : Py_BuildValue("KNiii", keys, size_tuple, dtype, device_type, device_index);
}

static PyMethodDef tensor_methods[] = {
    {"set_tensor_getters", native_set_tensor_getters, METH_VARARGS, "set_tensor_getters(TensorBase, stride, dispatch_keys)"},
    {"set_tensor_access", native_set_tensor_access, METH_VARARGS,
     "set_tensor_access(tensor_offset, keys_offset, shim addresses): zeros switch back to the getters"},
    {"set_tensor_layout", native_set_tensor_layout, METH_VARARGS,
     "set_tensor_layout(ready, rank, autograd, requires_grad, grad_fn): byte offsets, for stamps"},
    {"words", native_words, METH_VARARGS, "words(address, n): n 64-bit words, for probing"},
    {"tensor_facts", native_tensor_facts, METH_O,
     "tensor_facts(tensor) -> (keys, sizes, dtype code, device type, device index), or None without fast access"},
    {NULL},
};

int
lw_tensor_setup(PyObject *module)
{
    return PyModule_AddFunctions(module, tensor_methods);
}
