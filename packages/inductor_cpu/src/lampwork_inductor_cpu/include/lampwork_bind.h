// lampwork_bind.h: the few names of CPython's stable ABI that a kernel library needs to export Python callables.
//
// Included once at the end of a generated library; Python's own headers are neither needed nor read. A kernel's arguments are
// tensors (asked for their data_ptr) or plain integers (addresses, sizes).
#pragma once

extern "C" {
typedef struct PyObject { intptr_t references; void* type; } PyObject;
typedef intptr_t Py_ssize_t;
typedef struct PyMethodDef { const char* name; void* method; int flags; const char* doc; } PyMethodDef;
#if defined(__APPLE__) || defined(__linux__)
#define LW_IMPORT extern
#endif
LW_IMPORT PyObject _Py_NoneStruct;
LW_IMPORT PyObject PyLong_Type;
LW_IMPORT PyObject* PyExc_IndexError;
LW_IMPORT PyObject* PyExc_RuntimeError;
LW_IMPORT PyObject* PyExc_TypeError;
void Py_IncRef(PyObject*);
void Py_DecRef(PyObject*);
PyObject* PyErr_Occurred(void);
PyObject* PyErr_Format(PyObject*, const char*, ...);
void PyErr_SetString(PyObject*, const char*);
PyObject* PyUnicode_InternFromString(const char*);
PyObject* PyObject_VectorcallMethod(PyObject*, PyObject* const*, __SIZE_TYPE__, PyObject*);
void* PyLong_AsVoidPtr(PyObject*);
long long PyLong_AsLongLong(PyObject*);
double PyFloat_AsDouble(PyObject*);
void* PyEval_SaveThread(void);
void PyEval_RestoreThread(void*);
}
#define METH_FASTCALL 0x0080

static int (*lampwork_thread_source)(void) = nullptr;
static int lampwork_default_threads = 1;
extern "C" __attribute__((visibility("default"))) void lampwork_set_threads(void* source, int otherwise) {
  lampwork_thread_source = (int (*)(void))source;
  lampwork_default_threads = otherwise;
}
static inline int lampwork_threads() { return lampwork_thread_source ? lampwork_thread_source() : lampwork_default_threads; }
static inline PyObject* none() {
  Py_IncRef(&_Py_NoneStruct);
  return &_Py_NoneStruct;
}
static inline void* address(PyObject* tensor, bool* bad) {
  if (*bad) return nullptr;  // an exception is pending already
  if (tensor->type == &PyLong_Type) return PyLong_AsVoidPtr(tensor);
  static PyObject* const name = PyUnicode_InternFromString("data_ptr");
  PyObject* const result = PyObject_VectorcallMethod(name, &tensor, 1, nullptr);
  if (!result) return *bad = true, nullptr;
  void* const pointer = PyLong_AsVoidPtr(result);
  Py_DecRef(result);
  return pointer;
}
static inline int64_t integer(PyObject* value, bool* bad) {
  if (*bad) return 0;
  const int64_t result = PyLong_AsLongLong(value);
  if (result == -1 && PyErr_Occurred()) *bad = true;
  return result;
}
static inline double floating(PyObject* value, bool* bad) {
  if (*bad) return 0;
  const double result = PyFloat_AsDouble(value);
  if (result == -1 && PyErr_Occurred()) *bad = true;
  return result;
}
static __attribute__((cold)) PyObject* wrong_count(const char* name, int wanted, Py_ssize_t given) {
  return PyErr_Format(PyExc_TypeError, "%s takes %d arguments, got %zd", name, wanted, given);
}
static __attribute__((cold)) PyObject* raise(const lw::status& s) {
  if (s.failure == lw::division_by_zero) return PyErr_SetString(PyExc_RuntimeError, "ZeroDivisionError"), nullptr;
  return PyErr_Format(PyExc_IndexError, "index %lld is out of bounds for dimension with size %lld", (long long)s.index,
                      (long long)s.size);
}
