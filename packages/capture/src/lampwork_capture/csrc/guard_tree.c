#include "native.h"
int lw_guard_setup(PyObject *module){return 0;}
bool lw_guard_tree_is(PyObject *object){return false;}
int lw_guard_tree_check(PyObject *tree, const lw_scope *scope){return 1;}
void lw_guard_tree_set_entry(PyObject *tree, lw_entry *entry_or_null){}
