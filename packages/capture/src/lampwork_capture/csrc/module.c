/* lampwork_capture._native: puts the parts together. */
#include "native.h"

static struct PyModuleDef native_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "lampwork_capture._native",
    .m_doc = "The native half of capture: frame hook, code cache, guard trees.",
    .m_size = -1,
};

PyMODINIT_FUNC
PyInit__native(void)
{
    PyObject *module = PyModule_Create(&native_module);
    if (module == NULL) {
        return NULL;
    }
    if (lw_frame_setup() < 0 || lw_cache_setup(module) < 0 || lw_hook_setup(module) < 0 || lw_tail_setup(module) < 0
        || lw_callable_setup(module) < 0 || lw_module_call_setup(module) < 0 || lw_or_none_setup(module) < 0
        || lw_guard_setup(module) < 0) {
        Py_DECREF(module);
        return NULL;
    }
    return module;
}
