"""Check the project's words: names in code, openings of docstrings, phrases, sentences in Markdown.

Use: python .ci/check_words.py [--measure] [PATHS]

Each fault is printed as FILE:LINE: TEXT, and the exit code is 1 if there is any. What is checked:

- Python: no bound name of VAGUE_NAMES (assignments, targets of for, with, comprehensions and
  walruses, parameters, exceptions, attributes, functions, classes), leading underscores apart;
- Python: no docstring opens with a question word;
- Python, Snakemake, Markdown, reStructuredText: no phrase of PHRASES in prose and comments;
- Markdown, reStructuredText: one sentence a line, no sentence over several lines, and none of more
  than LONGEST_SENTENCE words.

Measures, for each ROOT with --measure:

- modules at the top: files of src/palletfit itself, without __init__.py;
- imports inside: of all pairs (importing module, imported module of palletfit), the share of those
  whose first folder below palletfit is the same; a module at the top is in no folder;
- vague names: of all bound names in src, counted at each place where they are bound, the share of
  those in VAGUE_NAMES; self, cls and _ are not counted;
- question words: of all docstrings in src, the share of those that open with one;
- lines of Python and Snakemake files in src, scripts and rules.
"""

import argparse
import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path

# Names that do not say what they hold. Python's and the field's own words are not among them: key,
# value, name, row, kind, first, last, rest, other, seen, done, left and right stay.
# So does kept, of records of earlier runs.
VAGUE = """
    found made some own known item items said asked place places how whole thing things stuff
    what why where which who whose there here both every most others given taken held told
    got brought wanted something anything everything nothing such these those it them
"""
VAGUE_NAMES = frozenset(VAGUE.split())
# Words for parts of names, which come from nowhere in the field.
LITERARY_NAMES = frozenset({"mourn", "barren", "strangers", "stranger", "befall", "bereft"})
QUESTION_WORDS = ("What", "Whether", "How", "Where", "Which", "When", "Why", "Who", "Whose", "Whom")
# Phrases, and plain ones to say instead.
PHRASES = {
    r"(?<!to\s)\blet alone\b": "ignored",
    r"\bbefall(s|en|ing)?\b|\bbefell\b": "happens to",
    r"\bin the place of\b": "instead of",
    r"\banew\b": "again",
    r"\bbe rid of\b": "remove",
    r"\b(where|there|here)(of|in|upon|unto)\b": "of which, in it",
    r"\b(whence|thence|lest|ere|aught|naught|nought)\b": "a plain word",
    r"\b(whilst|amongst|betwixt)\b": "while, among",
    r"\bsaid again\b": "run again",
    r"\bis no more\b": "no longer exists",
    r"\b(does|do) without (?=one|it|them)\b": "does not use",
    r"\bfor want of\b": "without",
    r"\bby and by\b|\bof late\b|\bas it were\b|\bso to speak\b": "nothing",
}
LONGEST_SENTENCE = 40
# Exceptions: (end of the path, name or phrase as found).
ALLOWED: tuple[tuple[str, str], ...] = ((".ci/check_words.py", "*"),)

DEFAULT_PATHS = (
    *("README.md", "CONTRIBUTING.md", "docs", "report"),
    *("Snakefile", "src", "scripts", "rules", "benchmarks", "tests", ".ci"),
)
GENERATED = ("docs/configuration.md",)
PYTHON = (".py",)
SNAKEMAKE = (".smk", "Snakefile")
PROSE = (".md", ".rst")

Fault = tuple[int, str, str]  # line, word, what is wrong with it


# Python


def bound_names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Give line and name of everything that a module binds, but imports."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield node.lineno, name
            case ast.arg(arg=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield node.lineno, name
            case ast.ClassDef(name=name):
                yield node.lineno, name
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)):
                yield node.lineno, name
            case ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
                yield node.lineno, name


def docstrings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Give line and text of the docstrings of modules, classes, functions and attributes."""
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for node in ast.walk(tree):
        if not isinstance(node, documented):
            continue
        attributes = isinstance(node, ast.Module | ast.ClassDef)
        for statement in node.body if attributes else node.body[:1]:
            match statement:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    yield statement.lineno, text


def is_vague(name: str) -> bool:
    """Return true for a name that does not say what it holds."""
    return name.strip("_").lower() in VAGUE_NAMES


def name_faults(tree: ast.AST) -> Iterator[Fault]:
    """Find vague and literary names."""
    for line, name in bound_names(tree):
        if is_vague(name):
            yield line, name, "is a name that does not say what it holds"
        elif LITERARY_NAMES & set(name.lower().split("_")):
            yield line, name, "is not a word of software or of the field"


def opens_with_question(text: str) -> bool:
    """Return true for a docstring that opens with a question word."""
    return bool(re.match(rf"\s*({'|'.join(QUESTION_WORDS)})\b", text))


def opening_faults(texts: Iterable[tuple[int, str]]) -> Iterator[Fault]:
    """Find docstrings that open with a question word."""
    for line, text in texts:
        if opens_with_question(text):
            first = text.split()[0]
            yield line, first, "opens a docstring: use an imperative or a plain noun"


def phrase_faults(line: int, text: str) -> Iterator[Fault]:
    """Find literary phrases in prose, also those broken over lines."""
    for pattern, plain in PHRASES.items():
        for match in re.finditer(pattern.replace(" ", r"[\s#]+"), text, re.IGNORECASE):
            phrase = " ".join(match.group().split())
            yield line + text.count("\n", 0, match.start()), phrase, f"is not plain; say: {plain}"


def comments(source: str) -> Iterator[tuple[int, str]]:
    """Give line and text of comments; those of neighbouring lines are one text."""
    block: list[str] = []
    begin = end = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        if block and token.start[0] != end + 1:
            yield begin, "\n".join(block)
            block = []
        if not block:
            begin = token.start[0]
        block.append(token.string)
        end = token.start[0]
    if block:
        yield begin, "\n".join(block)


def long_strings(source: str) -> Iterator[tuple[int, str]]:
    """Give line and text of triple-quoted strings: the docstrings of Snakemake's rules."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.STRING and token.string.startswith('"""'):
            yield token.start[0], token.string[3:-3]


def code_faults(path: Path) -> Iterator[Fault]:
    """Check a file of Python or Snakemake."""
    source = path.read_text(encoding="utf-8")
    if path.name.endswith(SNAKEMAKE):
        texts = list(long_strings(source))
    else:
        tree = ast.parse(source, filename=str(path))
        yield from name_faults(tree)
        texts = list(docstrings(tree))
    yield from opening_faults(texts)
    for line, text in [*texts, *comments(source)]:
        yield from phrase_faults(line, text)


# Markdown and reStructuredText

FENCE = re.compile(r"\s*(```|~~~)")
LIST_MARK = re.compile(r"\s*([-*+]|\d+[.)])\s+")
# Lines that are no sentences: headings, tables, quotes of HTML, images, definitions of links,
# rules, and underlines, directives and fields of reStructuredText.
NO_PROSE = re.compile(r"\s*(#|\||<|!\[[^\]]*\]\([^)]*\)$|\[[^\]]+\]:|[-=~^*]{3,}$|\.\. |:\w+:)")
LEAD = re.compile(r"(\*\*[^*]+\*\*|\*[^*]+[.:,]\*)\s*(?=\S)")
CLOSERS = r"[\"')\]*_”]*"
SENTENCE_END = re.compile(
    rf"[.!?]{CLOSERS}(?=\s+[\"'(\[*_“]*([A-Z0-9`\u0391-\u03c9]|(pyhf|palletfit|cabinetry|make)\b))"
)
LINE_END = re.compile(rf"[.!?:…]{CLOSERS}$")
ABBREVIATION = re.compile(
    r"\b([A-Z]|e\.g|i\.e|al|cf|vs|etc|Eq|Eqs|Fig|Figs|Ref|Refs|Sec|No|Eur|Phys|Rev|Lett|Commun|Comput|Conf|Statist|Sci|Biometrika|St|Dr|ca)\.$"
)


def plain_text(line: str) -> str:
    """Replace code, formulae and addresses, whose full stops end no sentence, by one word each."""
    line = re.sub(r"``[^`]+``|`[^`]+`", "Code", line)
    line = re.sub(r"\{\{.*?\}\}", "Code", line)
    line = re.sub(r"\$[^$]+\$", "Formula", line)
    line = re.sub(r"\]\([^)]*\)", "]", line)
    return re.sub(r"https?://\S*[\w/]", "Address", line)


def sentences(line: str) -> list[str]:
    """Split one line of prose into its sentences."""
    parts = []
    begin = 0
    for match in SENTENCE_END.finditer(line):
        if ABBREVIATION.search(line[begin : match.end()]):
            continue
        parts.append(line[begin : match.end()].strip())
        begin = match.end()
    return [part for part in [*parts, line[begin:].strip()] if part]


def paragraphs(text: str) -> Iterator[list[tuple[int, str]]]:
    """Give the paragraphs of prose and the items of lists, as lines with their numbers."""
    block: list[tuple[int, str]] = []
    fenced = in_list = False
    after_blank = True
    for number, line in enumerate(text.splitlines(), 1):
        fence = FENCE.match(line)
        mark = LIST_MARK.match(line)
        code = after_blank and line.startswith("    ") and not in_list
        prose = not (fence or fenced or code or NO_PROSE.match(line) or not line.strip())
        if block and (mark or not prose):
            yield block
            block = []
        if fence:
            fenced = not fenced
        if prose:
            block.append((number, line[mark.end() :] if mark else line.strip().lstrip("> ")))
        if mark and prose:
            in_list = True
        elif line.strip() and not line.startswith(" ") and not block[1:]:
            in_list = False
        after_blank = not line.strip() or (code and after_blank)
    if block:
        yield block


def sentence_faults(text: str) -> Iterator[Fault]:
    """Find lines of several sentences, sentences over several lines, and long ones."""
    for block in paragraphs(text):
        for position, (number, line) in enumerate(block):
            plain = plain_text(line)
            lead = LEAD.match(plain)
            plain = plain[lead.end() :] if lead else plain
            parts = sentences(plain)
            if len(parts) > 1:
                yield number, f"{parts[1][:30]} …", "begins a second sentence on this line"
            if position + 1 < len(block) and not LINE_END.search(plain):
                yield number, f"… {plain[-30:]}", "is a sentence that goes on in the next line"
            for part in parts:
                count = sum(bool(re.search(r"\w", word)) for word in part.split())
                if count > LONGEST_SENTENCE:
                    yield number, f"{part[:30]} …", f"is a sentence of {count} words"


def prose_faults(path: Path) -> Iterator[Fault]:
    """Check a file of Markdown or reStructuredText."""
    text = path.read_text(encoding="utf-8")
    yield from sentence_faults(text)
    outside, fenced = [], False
    for line in text.splitlines():
        fenced ^= bool(FENCE.match(line))
        outside.append("" if fenced else re.sub(r"`[^`]+`", "``", line))
    yield from phrase_faults(1, "\n".join(outside))


# Files


def files_below(paths: Iterable[Path]) -> Iterator[Path]:
    """Give the files to check among paths and in folders."""
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            generated = file.as_posix().endswith(GENERATED)
            if file.name.endswith(PYTHON + SNAKEMAKE + PROSE) and not generated:
                yield file


def faults(path: Path) -> list[Fault]:
    """Find all faults of one file that are not allowed."""
    check = prose_faults if path.name.endswith(PROSE) else code_faults
    return sorted(
        (line, word, problem)
        for line, word, problem in check(path)
        if not any(
            path.resolve().as_posix().endswith(end) and allowed in (word, "*")
            for end, allowed in ALLOWED
        )
    )


# Measures


def palletfit_imports(package: Path) -> Iterator[tuple[str, str]]:
    """Give all pairs of a module and a module of the package that it imports, once each."""
    modules = {}
    for file in package.rglob("*.py"):
        parts = file.relative_to(package.parent).with_suffix("").parts
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    for module, file in modules.items():
        inside = module if file.name == "__init__.py" else module.rpartition(".")[0]
        targets = set()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                targets |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                if node.level:
                    above = inside.split(".")[: len(inside.split(".")) - node.level + 1]
                    base = ".".join([*above, base] if base else above)
                for alias in node.names:
                    name = f"{base}.{alias.name}"
                    targets.add(name if name in modules else base)
        for target in targets & set(modules) - {module}:
            yield module, target


def room(module: str, package: Path) -> str | None:
    """Return the first folder below the package of a module, None for one at the top."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and (package / parts[1]).is_dir() else None


def count_lines(folder: Path) -> int:
    """Count the lines of Python and Snakemake files in a folder."""
    files = (file for file in folder.rglob("*") if file.name.endswith(PYTHON + SNAKEMAKE))
    return sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files)


def share(part: int, total: int) -> str:
    """Write a share with the numbers that it is made of."""
    return f"{100 * part / max(total, 1):.1f} % ({part} of {total})"


def measures(root: Path) -> dict[str, str]:
    """Measure a tree of the project."""
    package = root / "src" / "palletfit"
    pairs = list(palletfit_imports(package))
    inside = sum(
        room(module, package) is not None and room(module, package) == room(target, package)
        for module, target in pairs
    )
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in package.rglob("*.py")]
    names = [
        name
        for tree in trees
        for _, name in bound_names(tree)
        if name not in ("self", "cls") and name.strip("_")
    ]
    texts = [text for tree in trees for _, text in docstrings(tree)]
    return {
        "modules at the top": str(len(list(package.glob("[!_]*.py")))),
        "files of Python": str(len(trees)),
        "imports inside": share(inside, len(pairs)),
        "vague names": share(sum(map(is_vague, names)), len(names)),
        "question words": share(sum(map(opens_with_question, texts)), len(texts)),
        **{
            f"lines of {name}": str(count_lines(root / name))
            for name in ("src", "scripts", "rules")
        },
    }


def main(arguments: list[str] | None = None) -> int:
    """Check files or measure trees; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--measure", action="store_true", help="measure the trees of the project")
    parser.add_argument(
        "paths", nargs="*", type=Path, help="files and folders; with --measure the trees' roots"
    )
    options = parser.parse_args(arguments)
    if options.measure:
        for root in options.paths or [Path()]:
            lines = [f"{name:20} {value}" for name, value in measures(root).items()]
            sys.stdout.write("\n".join([f"{root.resolve()}", *lines, ""]))
        return 0
    paths = options.paths or [Path(name) for name in DEFAULT_PATHS]
    missing = [path for path in paths if not path.exists()]
    if missing:
        sys.stderr.write(f"error: not there: {', '.join(map(str, missing))}\n")
        return 2
    count = 0
    for path in files_below(paths):
        for line, word, problem in faults(path):
            sys.stdout.write(f"{path}:{line}: '{word}' {problem}\n")
            count += 1
    if count:
        sys.stdout.write(f"{count} faults in words; CONTRIBUTING.md says what to write instead\n")
    return int(count > 0)


if __name__ == "__main__":
    sys.exit(main())
