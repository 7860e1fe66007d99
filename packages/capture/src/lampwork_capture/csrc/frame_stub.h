/* What lw_frame_leave needs of frame_stub.c (CPython 3.12 and later). */
#ifndef LAMPWORK_FRAME_STUB_H
#define LAMPWORK_FRAME_STUB_H
#include "native.h"

extern PyCodeObject *lw_stub_code;
extern Py_ssize_t lw_stub_return; /* index of its RETURN_VALUE */

#endif
