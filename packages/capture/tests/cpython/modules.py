"""The modules of CPython's own test suite that are run under the hook: the language, and the library written in it.

Left out are those that look at the interpreter rather than at what programs do: `test_gc` counts every object that the
collector sees, and what a conversion allocates is among them; `test_sys`, `test_dis` and their kin ask for code objects
and frames. What takes minutes, as each of thousands of cases is a conversion, is `SLOW`.
"""

from __future__ import annotations

_GRAMMAR = """
test_grammar test_scope test_with test_unpack test_unpack_ex test_patma test_augassign test_binop test_compare
test_richcmp test_named_expressions test_decorators test_listcomps test_setcomps test_dictcomps test_genexps
test_string_literals test_fstring test_opcodes test_global test_extcall test_call test_keywordonlyarg
test_positional_only_arg test_eof test_exception_variations test_flufl test_syntax test_unary
test_raise test_exceptions test_baseexception test_exception_group test_except_star test_exception_hierarchy
test_generators test_generator_stop test_yield_from test_coroutines test_asyncgen test_with test_pep646_syntax
test_print test_longexp test_crashers test_code test_frame test_traceback test_lltrace test_peepholer test_compile
""".split()

_OBJECTS = """
test_class test_super test_descr test_descrtut test_property test_metaclass test_subclassinit test_genericclass
test_dynamicclassattribute test_abc test_isinstance test_funcattrs test_types test_typing test_type_annotations
test_typechecks test_module test_typing test_genericalias test_hash test_index test_iter test_bool test_int test_long
test_float test_complex test_slice test_range test_enumerate test_tuple test_list test_dict test_dict_version test_set
test_dictviews test_unicode test_format test_string test_bytes test_memoryview test_builtin test_sort test_pow test_math
test_cmath test_numeric_tower test_fractions test_weakref test_weakset test_contains test_getopt
test_bigmem test_structseq test_userdict test_userlist test_userstring test_int_literal test_strtod
test_ordered_dict test_reprlib
""".split()

_LIBRARY = """
test_contextlib test_contextlib_async test_functools test_itertools test_collections test_deque test_defaultdict
test_dataclasses test_enum test_operator test_copy test_copyreg test_bisect test_random
test_string test_textwrap test_pprint test_types test_keyword test_abstract_numbers test_queue
test_graphlib test_difflib test_sched test_colorsys test_calendar test_json test_context test_inspect
test_configparser test_shlex test_argparse test_ast test_csv test_struct
""".split()

KNOWN: dict[str, str] = {
    "test.test_inspect.test_inspect.TestInterpreterStack.test_previous_frame": (
        "reads the arguments of a frame that a break resumed: they are the state that it resumed with"
    ),
}
"""Tests that differ, and why that is left so."""

LANGUAGE: tuple[str, ...] = tuple(dict.fromkeys([*_GRAMMAR, *_OBJECTS, *_LIBRARY]))
SLOW: tuple[str, ...] = ("test_heapq", "test_statistics", "test_array", "test_decimal", "test_datetime")
