"""Sphinx settings."""

import sys
from pathlib import Path

from pyg_hash import __version__

project = "pyg_hash"
author = "The pyg_hash developers"
release = __version__
sys.path.insert(0, str(Path(__file__).parent))
import equations  # noqa: E402 - it stands beside this file

equations.write()
extensions = ["sphinx.ext.autodoc", "sphinx.ext.mathjax", "sphinx.ext.napoleon", "results"]
html_theme = "furo"
html_show_copyright = False
exclude_patterns = ["_build"]

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_use_ivar = True  # attributes are documented in their class, not a second time
