/* CPython 3.12: the evaluator clears the frame it was given, and exports no function that does only that.
 *
 * So the frame is emptied here, is given the code of a stub that is about to return, and the evaluator finishes it:
 * unlinking, clearing, popping. An exception is kept aside meanwhile, so that the stub appears in no traceback and
 * triggers no trace event.
 */
#include "native.h"

#if PY_VERSION_HEX >= 0x030C0000 && PY_VERSION_HEX < 0x030D0000
#include "frame_access.h"
#include "frame_stub.h"

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
    frame->f_code = (PyCodeObject *)Py_NewRef(lw_stub_code);
    /* A frame without locals and stack has no slot of its own, but a stack chunk always has one word to spare above its
     * last frame (_PyThreadState_HasStackSpace), and nothing is pushed before the stub takes the value off again. */
    frame->localsplus[0] = result != NULL ? result : Py_NewRef(Py_None);
    frame->stacktop = 1;
    frame->prev_instr = _PyCode_CODE(lw_stub_code) + lw_stub_return - 1;
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
