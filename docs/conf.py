"""Sphinx settings. Pages are MyST; `{code-cell}` blocks are executed at every build, and an error fails the build."""

project = "Lampwork"
author = "The Lampwork authors"
copyright = "2026, the Lampwork authors"
extensions = ["myst_nb", "sphinx.ext.autodoc"]
html_theme = "furo"
html_title = "Lampwork"
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "deflist"]
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True
nb_mime_priority_overrides = [("html", "text/plain", 0)]
autodoc_typehints = "none"
suppress_warnings = ["mystnb.unknown_mime_type"]
