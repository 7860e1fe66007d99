/* CPython 3.10: the frame is an object that the caller of the evaluator gives up, so nothing is left to do after a
 * replacement.
 *
 * What is in it before it runs differs: an argument that a closure shares was moved into its cell already, so the
 * arguments of a call have to be gathered.
 */
#include "native.h"

#if PY_VERSION_HEX < 0x030B0000
#include "frame_access.h"

int
lw_frame_setup(void)
{
    return 0;
}

PyObject *
lw_frame_leave(PyThreadState *tstate, lw_frame *frame, PyObject *result)
{
    (void)tstate;
    (void)frame;
    return result;
}

void
lw_frame_gather(lw_frame *frame, Py_ssize_t n, PyObject **room)
{
    PyCodeObject *code = frame->f_code;
    memcpy(room, frame->f_localsplus, (size_t)n * sizeof(PyObject *));
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(code->co_cellvars); i++) {
        Py_ssize_t argument = code->co_cell2arg[i];
        if (argument != CO_CELL_NOT_AN_ARG) {
            room[argument] = PyCell_GET(frame->f_localsplus[code->co_nlocals + i]);
        }
    }
}

void
lw_frame_release(lw_frame *frame)
{
    PyCodeObject *code = frame->f_code;
    int n = lw_argument_slots(code);
    for (int i = 0; i < n; i++) {
        Py_CLEAR(frame->f_localsplus[i]);
    }
    for (Py_ssize_t i = 0; code->co_cell2arg != NULL && i < PyTuple_GET_SIZE(code->co_cellvars); i++) {
        if (code->co_cell2arg[i] != CO_CELL_NOT_AN_ARG) {
            Py_CLEAR(frame->f_localsplus[code->co_nlocals + i]);
        }
    }
}

#endif
