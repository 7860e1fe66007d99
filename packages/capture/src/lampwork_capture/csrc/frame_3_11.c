/* CPython 3.11: the caller of the evaluator clears the frame, so there is nothing to do after a replacement. */
#include "native.h"

#if PY_VERSION_HEX >= 0x030B0000 && PY_VERSION_HEX < 0x030C0000

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

#endif
