"""Settings of the documentation's site, which `make docs` builds.

The sources are README.md, CONTRIBUTING.md and docs/, all of them Markdown that can be read without
the site. What only the site needs is added here: the order of pages is that of docs/index.md.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

from palletfit import __version__

project = "palletfit"
author = "the palletfit authors"
project_copyright = author
version = release = __version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "README"
include_patterns = ["README.md", "CONTRIBUTING.md", "docs/**"]
# Folders that are large and have no pages are not even listed.
exclude_patterns = [
    *(".*", "benchmarks", "build", "config", "dist", "envs", "logs", "profiles", "report"),
    *("resources", "results", "rules", "scripts", "src", "tests"),
]

myst_heading_anchors = 4
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 120  # seconds for one cell
nb_merge_streams = True

default_role = "code"
highlight_language = "none"
autodoc_class_signature = "separated"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = False
napoleon_use_rtype = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
# A reference to something public that has no place on docs/api.md is an error.
nitpicky = True
nitpick_ignore_regex = [
    # Names of the standard library and of NumPy, as the site is built without a network.
    ("py:.*", r"(?!palletfit\.).*"),
    # Modules are for readers of the source.
    ("py:mod", ".*"),
    ("py:.*", r"palletfit\.pallet\.inspection\.(finding|pairing|proposal|writing)\..*"),
    ("py:class", r"palletfit\.(api|results)\.Result"),  # a type variable
]

html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_title = f"palletfit {version}"
html_copy_source = False
html_show_sphinx = False

PAGES_IN_TABLE = re.compile(r"^\| \[[^\]]+\]\(([^)#]+)\)", re.MULTILINE)
#: A link whose text is the name of its page, as it is best on a page read as Markdown.
NAMED_LINK = re.compile(r"(?<!!)\[(?:docs/)?\w+\.(?:md|ipynb)\]\(([^)\s]+)\)")


def table_of_contents(index: str) -> str:
    """Make the site's table of contents of the tables in docs/index.md.

    Parameters
    ----------
    index
        Text of that page: sections with tables, whose first column links a page each.
    """
    blocks = ["```{toctree}\n:hidden:\n\nAll pages <docs/index>\n```"]
    for section in index.split("\n## ")[1:]:
        title = section.partition("\n")[0]
        pages = [
            page.removeprefix("../") if page.startswith("../") else f"docs/{page}"
            for page in PAGES_IN_TABLE.findall(section)
        ]
        if pages:
            lines = "\n".join(re.sub(r"\.(md|ipynb)$", "", page) for page in pages)
            blocks.append(f"```{{toctree}}\n:hidden:\n:caption: {title}\n\n{lines}\n```")
    return "\n\n".join(blocks)


def adapt(app: Any, page: str, source: list[str]) -> None:
    """Let links show titles of pages, and add the table of contents to the first page."""
    source[0] = NAMED_LINK.sub(r"[](\1)", source[0])
    if page == root_doc:
        index = Path(app.srcdir, "docs", "index.md")
        app.env.note_dependency(index)
        source[0] += "\n\n" + table_of_contents(index.read_text(encoding="utf-8"))


def write_index(app: Any, error: Exception | None) -> None:
    """Lead from the folder's own address to the first page."""
    if error is None and app.builder.format == "html":
        target = f"{root_doc}.html"
        Path(app.outdir, "index.html").write_text(
            '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>palletfit</title>\n'
            f'<meta http-equiv="refresh" content="0; url={target}">\n'
            f'<a href="{target}">palletfit</a>\n</html>\n',
            encoding="utf-8",
        )


def setup(app: Any) -> dict[str, bool]:
    """Register what is added to Sphinx."""
    from jupyter_client.manager import KernelManager

    # Else others on this machine could read what the notebook's kernel is asked, as it warns.
    KernelManager.transport_encryption.default_value = "auto"
    logging.getLogger("traitlets").setLevel(logging.WARNING)  # it announces each notebook
    app.connect("source-read", adapt)
    app.connect("build-finished", write_index)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
