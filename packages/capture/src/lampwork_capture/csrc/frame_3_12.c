/* CPython 3.12: the evaluator clears the frame it was given, and exports no function that does only that.
 *
 * So the frame is emptied here, is given the code of a stub that is about to return, and the evaluator finishes it:
 * unlinking, clearing, popping. An exception is kept aside meanwhile, so that the stub appears in no traceback and
 * triggers no trace event.
 */
#include "native.h"

#if PY_VERSION_HEX >= 0x030C0000 && PY_VERSION_HEX < 0x030D0000
#include "frame_access.h"
#include <internal/pycore_opcode.h>
#include <opcode.h>

static PyCodeObject *stub_code = NULL;
static Py_ssize_t stub_return = -1; /* index of its RETURN_VALUE */

int
lw_frame_setup(void)
{
    if (stub_code != NULL) {
        return 0;
    }
    PyObject *namespace = PyDict_New();
    if (namespace == NULL) {
        return -1;
    }
    PyObject *ran = PyRun_String("leave_frame = lambda: leave_frame()", Py_file_input, namespace, namespace);
    PyObject *function = ran != NULL ? PyDict_GetItemString(namespace, "leave_frame") : NULL;
    if (function != NULL && PyFunction_Check(function)) {
        stub_code = (PyCodeObject *)Py_NewRef(PyFunction_GET_CODE(function));
    }
    Py_XDECREF(ran);
    Py_DECREF(namespace);
    if (stub_code == NULL) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_SystemError, "lampwork: no stub to leave frames with");
        }
        return -1;
    }
    const _Py_CODEUNIT *units = _PyCode_CODE(stub_code);
    for (Py_ssize_t i = Py_SIZE(stub_code) - 1; i >= 0; i--) {
        if (units[i].op.code == RETURN_VALUE) {
            stub_return = i;
            break;
        }
    }
    if (stub_return < 0 || stub_code->co_nlocalsplus != 0) {
        Py_CLEAR(stub_code);
        PyErr_SetString(PyExc_SystemError, "lampwork: the stub to leave frames with has an unknown shape");
        return -1;
    }
    return 0;
}

PyObject *
lw_frame_leave(PyThreadState *tstate, lw_frame *frame, PyObject *result)
{
    PyObject *exception = result == NULL ? PyErr_GetRaisedException() : NULL;
    PyCodeObject *code = frame->f_code;
    int n = code->co_nlocalsplus;
    frame->stacktop = 0;
    for (int i = 0; i < n; i++) {
        Py_CLEAR(frame->localsplus[i]);
    }
    frame->f_code = (PyCodeObject *)Py_NewRef(stub_code);
    /* A frame without locals and stack has no slot of its own, but a stack chunk always has one word to spare above its
     * last frame (_PyThreadState_HasStackSpace), and nothing is pushed before the stub takes the value off again. */
    frame->localsplus[0] = result != NULL ? result : Py_NewRef(Py_None);
    frame->stacktop = 1;
    frame->prev_instr = _PyCode_CODE(stub_code) + stub_return - 1;
    Py_DECREF(code);
    result = _PyEval_EvalFrameDefault(tstate, frame, 0);
    if (exception != NULL) {
        Py_XDECREF(result);
        PyErr_SetRaisedException(exception); /* replaces a RecursionError of the stub, which says nothing new */
        return NULL;
    }
    return result;
}

#endif
