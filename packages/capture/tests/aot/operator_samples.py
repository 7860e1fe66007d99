"""torch's operator database, importable without `expecttest`.

`torch.testing._internal` imports that package for the base class of torch's own test cases, which nothing here uses;
where it is not installed, unittest's base class stands in while the database is imported.
"""

from __future__ import annotations

import importlib.util
import sys
import types
import unittest
from unittest import mock


def _load():
    from torch.testing._internal.common_methods_invocations import op_db

    return op_db


if importlib.util.find_spec("expecttest") is None:
    stand_in = types.ModuleType("expecttest")
    stand_in.TestCase = unittest.TestCase
    with mock.patch.dict(sys.modules, {"expecttest": stand_in}):
        op_db = _load()
        kept = {name: module for name, module in sys.modules.items() if name != "expecttest"}
    sys.modules.update(kept)
else:
    op_db = _load()
