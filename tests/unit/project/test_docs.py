"""Documentation: links lead somewhere, pages are listed, and names in it are names of the code."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import inspect
import json
import re
from functools import cache
from pathlib import Path

import click
import pytest
import yaml

import palletfit
from palletfit.cli import main
from palletfit.runs import registry

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "src" / "palletfit"
DOCS = ROOT / "docs"
NOTEBOOKS = sorted(DOCS.glob("*.ipynb"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md")), *NOTEBOOKS]
LINK = re.compile(r"\]\(([^)\s]+)\)")
NAME = re.compile(r"\bpalletfit(?:\.[a-z_A-Z][a-z_A-Z0-9]*)+")
IMPORT = re.compile(r"^from (palletfit[\w.]*) import (\([^)]+\)|.+)$", re.MULTILINE)


def content(page: Path) -> str:
    """Text of a page, and that of a notebook's cells."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".md":
        return text
    return "\n\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])


@cache
def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"```.*?```", "", content(page), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings
    }


def links(page: Path) -> list[tuple[str, str]]:
    """Relative links of a page: file and anchor."""
    targets = (link for link in LINK.findall(content(page)) if "://" not in link)
    return [(file, anchor) for file, _, anchor in (link.partition("#") for link in targets)]


def has_name(dotted: str) -> bool:
    """Look for a dotted name in the files of the package."""
    parts = dotted.split(".")[1:]
    module = PACKAGE
    while parts and ((module / parts[0]).is_dir() or (module / f"{parts[0]}.py").is_file()):
        module /= parts.pop(0)
    file = module / "__init__.py" if module.is_dir() else module.with_suffix(".py")
    return not parts or re.search(rf"\b{parts[0]}\b", file.read_text()) is not None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for file, anchor in links(page):
        target = page.parent / file if file else page
        assert target.exists(), file
        assert not anchor or anchor in anchors(target), f"{file}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_names_are_names_of_the_code(page):
    text = content(page)
    for name in NAME.findall(text):
        assert has_name(name), name
    for module, names in IMPORT.findall(text):
        for name in re.findall(r"\w+", names):
            assert has_name(f"{module}.{name}"), f"{module}.{name}"


def test_index_lists_all_pages():
    listed = {file for file, _ in links(DOCS / "index.md")}
    pages = {page.name for page in PAGES if page.parent == DOCS}
    assert pages - {"index.md"} == {file for file in listed if "/" not in file}


@pytest.fixture(scope="module")
def site():
    """Settings of the documentation's site, without Sphinx."""
    spec = importlib.util.spec_from_file_location("conf", DOCS / "conf.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_table_of_contents_of_the_site_has_every_page_once(site):
    contents = site.table_of_contents(content(DOCS / "index.md"))
    entries = re.findall(r"^(?:.*<)?([\w/]+)>?$", contents, re.MULTILINE)
    pages = [str(page.relative_to(ROOT).with_suffix("")) for page in PAGES]
    assert sorted(entries) == sorted(set(pages) - {site.root_doc})
    captions = re.findall(r"^:caption: (.+)$", contents, re.MULTILINE)
    assert captions == re.findall(r"^## (.+)$", content(DOCS / "index.md"), re.MULTILINE)[:4]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("See [a_b.md](a_b.md).", "See [](a_b.md)."),
        ("[docs/a.md](docs/a.md#b), [a.ipynb](a.ipynb)", "[](docs/a.md#b), [](a.ipynb)"),
        ("[words](a.md), `a.md`, ![a.md](a.png)", "[words](a.md), `a.md`, ![a.md](a.png)"),
    ],
)
def test_links_named_by_their_page_show_its_title_on_the_site(site, text, shown):
    page = [text]
    site.adapt(None, "docs/page", page)
    assert page == [shown]


def test_gallery_shows_all_images():
    shown = {file for file, _ in links(DOCS / "gallery.md")}
    assert {f"images/{image.name}" for image in (DOCS / "images").iterdir()} <= shown


def test_api_page_has_everything_at_the_top_of_the_package():
    documented = set(
        re.findall(r"^\.\. auto\w+:: ([\w.]+)$", content(DOCS / "api.md"), re.MULTILINE)
    )
    public = {f"palletfit.{name}" for name in palletfit.__all__ if not name.startswith("_")}
    assert public <= documented


def test_api_page_has_the_results_of_all_functions():
    documented = re.findall(r"^\.\. autoclass:: ([\w.]+)$", content(DOCS / "api.md"), re.MULTILINE)
    classes = {name.rpartition(".")[2] for name in documented}
    functions = [getattr(palletfit, name) for name in palletfit.__all__]
    answers = [
        function.__annotations__["return"] for function in functions if inspect.isfunction(function)
    ]
    results = {re.fullmatch(r"(?:Results\[)?(\w+)\]?|.*", answer)[1] for answer in answers}
    assert {"HypotestResult", "Limits", "BestFit"} <= results
    assert results - {None, "None", "Spec"} <= classes


def test_examples_of_coming_from_other_tools_run():
    page = str(DOCS / "coming_from.md")
    failed, attempted = doctest.testfile(page, module_relative=False)
    assert attempted > 20
    assert failed == 0


def test_commands_for_users_of_other_tools_have_their_options():
    context = click.Context(main, info_name="palletfit")
    lines = re.findall(r"`palletfit (\w+)([^`\n]*)`", content(DOCS / "coming_from.md"))
    assert {"hypotest", "limit", "pulls"} <= {name for name, _ in lines}
    for name, words in lines:
        command = main.get_command(context, name)
        assert command, name
        known = {option for parameter in command.params for option in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", words)) <= known, f"palletfit {name}{words}"


def test_names_of_other_tools_are_theirs():
    """Those that are installed here."""
    names = set(re.findall(r"`((?:pyhf|cabinetry)(?:\.\w+)+)", content(DOCS / "coming_from.md")))
    assert len(names) > 10
    for name in names:
        package, _, attributes = name.partition(".")
        module = importlib.import_module(package)
        for attribute in attributes.split("."):
            if not hasattr(module, attribute):  # a module that its package does not import
                importlib.import_module(f"{module.__name__}.{attribute}")
            module = getattr(module, attribute)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_stored_without_outputs(notebook):
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


def test_architecture_lists_all_packages_and_no_other():
    text = (DOCS / "architecture.md").read_text()
    section = text.partition("## The packages\n")[2].partition("\n## ")[0]
    listed = set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert listed == packages
    order = text.partition("## Direction of imports\n")[2].partition("\n## ")[0]
    assert packages <= set(re.findall(r"`(\w+)`", order))


def test_files_of_the_architecture_exist():
    text = (DOCS / "architecture.md").read_text()
    for file in re.findall(r"`([\w/]+/\w+\.py)`", text):
        assert (PACKAGE / file).is_file() or (ROOT / file).is_file(), file


def test_targets_of_the_readme_are_rules():
    table = (ROOT / "README.md").read_text().partition("| target |")[2].partition("\n\n")[0]
    first_columns = [row.split("|")[1] for row in table.splitlines()[2:]]
    targets = {name for cell in first_columns for name in re.findall(r"`(\w+)`", cell)}
    rules = "".join(path.read_text() for path in [ROOT / "Snakefile", *ROOT.glob("rules/*.smk")])
    written = set(re.findall(r"^(?:use )?rule (?:\w+ as )?(\w+)", rules, re.MULTILINE))
    assert "limits" in targets
    products = set(registry.products())
    assert targets <= written | products | {f"submit_{name}" for name in products}


def test_citation_and_changelog_name_the_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert str(citation["version"]) == palletfit.__version__
    newest = re.search(r"^## (.+)$", content(DOCS / "changelog.md"), re.MULTILINE)[1]
    assert re.fullmatch(r"\d+\.\d+\.\d+, (not released|\d{4}-\d\d-\d\d)", newest)
    if "not released" not in newest:
        assert newest.startswith(f"{palletfit.__version__}, ")
        assert str(citation["date-released"]) == newest.partition(", ")[2]
