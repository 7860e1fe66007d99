/* Scalar programs: conditions about exact Python ints and floats, run on a small stack (guards/scalar_program.py).
 *
 * Invariant: every number that a program loads is an exact int or float, so no step runs code of the user's; an operation
 * that raises makes the condition fail and leaves no exception.
 */
#include "guard.h"

enum step_kind {
    STEP_LOAD,
    STEP_CONSTANT,
    STEP_CALL,
    STEP_ADD,
    STEP_SUBTRACT,
    STEP_MULTIPLY,
    STEP_FLOOR_DIVIDE,
    STEP_REMAINDER,
    STEP_TRUE_DIVIDE,
    STEP_AND,
    STEP_OR,
    STEP_LESS,
    STEP_LESS_EQUAL,
    STEP_EQUAL,
    STEP_NOT_EQUAL,
    STEP_GREATER,
    STEP_GREATER_EQUAL,
    STEP_SELECT,
    STEP_TYPE,
    STEP_COUNT
};

#define DEEPEST 64

typedef struct {
    int kind;
    int count;       /* LOAD: which number; else how many operands */
    PyObject *value; /* borrowed from the specification */
} step;

struct lw_scalar_program {
    PyObject *expected; /* borrowed from the specification */
    int n_steps;
    step steps[];
};

bool
lw_integer_within(PyObject *value, int64_t lower, int64_t upper)
{
    if (!PyLong_CheckExact(value)) {
        return false;
    }
    int overflow;
    long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
    return overflow == 0 && number >= lower && number <= upper;
}

/* spec: (((kind, value, count), ...), expected, how many numbers) */
lw_scalar_program *
lw_scalar_compile(PyObject *spec)
{
    PyObject *steps, *expected;
    int n_numbers;
    if (!PyArg_ParseTuple(spec, "O!Oi:program", &PyTuple_Type, &steps, &expected, &n_numbers)) {
        return NULL;
    }
    Py_ssize_t n = PyTuple_GET_SIZE(steps);
    lw_scalar_program *program = PyMem_Calloc(1, sizeof(lw_scalar_program) + (size_t)n * sizeof(step));
    if (program == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    program->expected = expected;
    program->n_steps = (int)n;
    int depth = 0;
    for (Py_ssize_t i = 0; i < n; i++) {
        step *at = &program->steps[i];
        if (!PyArg_ParseTuple(PyTuple_GET_ITEM(steps, i), "iOi:step", &at->kind, &at->value, &at->count)) {
            PyMem_Free(program);
            return NULL;
        }
        int taken = at->kind <= STEP_CONSTANT ? 0 : at->count;
        int needed = at->kind == STEP_SELECT ? 3 : at->kind == STEP_TYPE ? 1 : at->kind >= STEP_ADD ? 2 : taken;
        bool bad = at->kind < 0 || at->kind >= STEP_COUNT || taken != needed || taken < 0 || taken > depth;
        bad = bad || (at->kind == STEP_LOAD && (at->count < 0 || at->count >= n_numbers));
        depth += 1 - taken;
        if (bad || depth > DEEPEST) {
            PyErr_Format(PyExc_ValueError, "step %zd of a scalar program: kind %d, count %d, depth %d", i, at->kind, at->count, depth);
            PyMem_Free(program);
            return NULL;
        }
    }
    if (depth != 1) {
        PyErr_SetString(PyExc_ValueError, "a scalar program must leave one value");
        PyMem_Free(program);
        return NULL;
    }
    return program;
}

static PyObject *
compute(const step *at, PyObject **operands)
{
    static const int comparisons[] = {Py_LT, Py_LE, Py_EQ, Py_NE, Py_GT, Py_GE};
    switch (at->kind) {
    case STEP_ADD:
        return PyNumber_Add(operands[0], operands[1]);
    case STEP_SUBTRACT:
        return PyNumber_Subtract(operands[0], operands[1]);
    case STEP_MULTIPLY:
        return PyNumber_Multiply(operands[0], operands[1]);
    case STEP_FLOOR_DIVIDE:
        return PyNumber_FloorDivide(operands[0], operands[1]);
    case STEP_REMAINDER:
        return PyNumber_Remainder(operands[0], operands[1]);
    case STEP_TRUE_DIVIDE:
        return PyNumber_TrueDivide(operands[0], operands[1]);
    case STEP_AND:
        return PyNumber_And(operands[0], operands[1]);
    case STEP_OR:
        return PyNumber_Or(operands[0], operands[1]);
    case STEP_SELECT:
        return Py_NewRef(operands[0] == Py_True ? operands[1] : operands[2]);
    case STEP_TYPE:
        return Py_NewRef(Py_TYPE(operands[0]));
    case STEP_CALL:
        return PyObject_Vectorcall(at->value, operands, (size_t)at->count, NULL);
    default:
        return PyObject_RichCompare(operands[0], operands[1], comparisons[at->kind - STEP_LESS]);
    }
}

bool
lw_scalar_holds(const lw_scalar_program *program, PyObject *const *numbers)
{
    PyObject *stack[DEEPEST] = {NULL};
    int depth = 0;
    bool failed = false;
    for (int i = 0; i < program->n_steps && !failed; i++) {
        const step *at = &program->steps[i];
        PyObject *value;
        if (at->kind == STEP_LOAD) {
            value = Py_NewRef(numbers[at->count]);
            failed = !PyLong_CheckExact(value) && !PyFloat_CheckExact(value);
        }
        else if (at->kind == STEP_CONSTANT) {
            value = Py_NewRef(at->value);
        }
        else {
            depth -= at->count;
            value = compute(at, stack + depth);
            for (int j = 0; j < at->count; j++) {
                Py_DECREF(stack[depth + j]);
            }
        }
        if (value == NULL) {
            PyErr_Clear();
            failed = true;
        }
        else {
            stack[depth++] = value;
        }
    }
    bool holds = !failed && lw_same_constant(stack[0], program->expected);
    while (depth > 0) {
        Py_DECREF(stack[--depth]);
    }
    return holds;
}
