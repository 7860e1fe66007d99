/* The code that an emptied frame is given from CPython 3.12 on, so that the evaluator can finish it: a call that is about to
 * return. Used by lw_frame_leave of the versions; invariant: it has no locals, and its RETURN_VALUE is never instrumented,
 * since nothing runs its RESUME.
 */
#include "native.h"

#if PY_VERSION_HEX >= 0x030C0000
#include "frame_access.h"
#include "frame_stub.h"
#if PY_VERSION_HEX < 0x030D0000
#include <internal/pycore_opcode.h>
#endif
#include <opcode.h>

PyCodeObject *lw_stub_code = NULL;
Py_ssize_t lw_stub_return = -1;

int
lw_frame_setup(void)
{
    if (lw_stub_code != NULL) {
        return 0;
    }
    PyObject *namespace = PyDict_New();
    if (namespace == NULL) {
        return -1;
    }
    PyObject *ran = PyRun_String("leave_frame = lambda: leave_frame()", Py_file_input, namespace, namespace);
    PyObject *function = ran != NULL ? PyDict_GetItemString(namespace, "leave_frame") : NULL;
    if (function != NULL && PyFunction_Check(function)) {
        lw_stub_code = (PyCodeObject *)Py_NewRef(PyFunction_GET_CODE(function));
    }
    Py_XDECREF(ran);
    Py_DECREF(namespace);
    if (lw_stub_code == NULL) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_SystemError, "lampwork: no stub to leave frames with");
        }
        return -1;
    }
    const _Py_CODEUNIT *units = _PyCode_CODE(lw_stub_code);
    for (Py_ssize_t i = Py_SIZE(lw_stub_code) - 1; i >= 0; i--) {
        if (units[i].op.code == RETURN_VALUE) {
            lw_stub_return = i;
            break;
        }
    }
    if (lw_stub_return < 0 || lw_stub_code->co_nlocalsplus != 0) {
        Py_CLEAR(lw_stub_code);
        PyErr_SetString(PyExc_SystemError, "lampwork: the stub to leave frames with has an unknown shape");
        return -1;
    }
    return 0;
}

#endif
