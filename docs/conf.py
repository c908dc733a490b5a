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
napoleon_numpy_docstring = False  # it would read what the other one wrote
napoleon_use_ivar = True  # attributes are documented in their class, not a second time
nitpicky = True  # every name of ours that is referred to has an entry
nitpick_ignore_regex = [
    (".*", r"(torch|torch_geometric|numpy|collections|pathlib|os|socket)\..*"),
    (".*", r"Tensor|HeteroData|nn\.Module|PathLike|BaseTransform|Compose"),
    # types of arguments, whose text lists what they may be
    ("py:class", r"Transform|TextFeatures|PairLoss|Metric|Widths|Reduction|\w*Activation|Layout"),
    ("py:class", r"FusionNorm|Split|Ties|Denominator|Backend|Modality|image|lookup\.Index"),
    ("py:class", r"pyg_hash\..*\.(EmojiEntry|StoredRows|PreparedRows)"),
    ("py:func", "weigh_by_distribution|diffused_directions"),  # beside the method that they serve
]


def _as_prose(app, what, name, obj, options, lines):
    """What stands before a colon in the line of an attribute is no type, as napoleon has it."""
    if what in ("attribute", "property", "data") and lines and ":" in lines[0]:
        lines[0] = f": {lines[0]}"


def _by_last_name(app, env, node, content):
    """What is named without its module, where only one thing is called so."""
    if node.get("refdomain") != "py":
        return None
    domain, kind = env.get_domain("py"), node["reftype"]
    kinds = domain.objtypes_for_role(kind)
    names = {
        (entry.docname, entry.node_id): name
        for name, entry in domain.objects.items()
        if name.endswith(f".{node['reftarget']}") and entry.objtype in kinds
    }
    base = f"pyg_hash.models.HashModel.{node['reftarget']}"  # of what several models override
    if len(names) != 1 and base not in domain.objects:
        return None
    name = base if len(names) != 1 else next(iter(names.values()))
    return domain.resolve_xref(env, node["refdoc"], app.builder, kind, name, node, content)


def setup(app):
    """Connect these."""
    app.connect("autodoc-process-docstring", _as_prose, priority=400)
    app.connect("missing-reference", _by_last_name)
