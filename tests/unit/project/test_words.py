"""The check of the project's words, on small samples."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / ".ci" / "check_words.py"


def _load():
    spec = importlib.util.spec_from_file_location("check_words", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


check_words = _load()


@pytest.fixture
def words_of(tmp_path):
    """Write a sample and return line and word of each fault in it."""

    def write_and_check(name, text):
        path = tmp_path / name
        path.write_text(text)
        return [(line, word) for line, word, _ in check_words.faults(path)]

    return write_and_check


@pytest.mark.parametrize(
    "code",
    [
        "found = 1",
        "_found: int = 1",
        "FOUND = 1",
        "a, found = 1, 2",
        "for found in (): ...",
        "with open('a') as found: ...",
        "[1 for found in ()]",
        "if found := 1: ...",
        "def f(found): ...",
        "def f(*, found=1): ...",
        "def f(*found): ...",
        "lambda found: 1",
        "def found(): ...",
        "class Found: ...",
        "try: ...\nexcept OSError as found: ...",
        "a.found = 1",
        "match 1:\n    case found: ...",
        "match 1:\n    case [*found]: ...",
        "match 1:\n    case {**found}: ...",
    ],
)
def test_vague_names_are_seen_wherever_they_are_bound(words_of, code):
    assert [word.strip("_").lower() for _, word in words_of("a.py", code)] == ["found"]


@pytest.mark.parametrize(
    "code",
    [
        "print(found)",
        "f(found=1)",
        "a.found",
        "from a import found",
        "found_patches = 1",
        "for key, value in {}.items(): ...",
        "'found'",
    ],
)
def test_names_that_are_only_used_or_say_what_they_hold_pass(words_of, code):
    assert words_of("a.py", code) == []


def test_line_of_a_fault(words_of):
    assert words_of("a.py", "a = 1\n\nfound = 2\n") == [(3, "found")]


def test_names_from_novels(words_of):
    assert words_of("a.py", "def _mourn(): ...\n_barren_blocks = 1\n") == [
        (1, "_mourn"),
        (2, "_barren_blocks"),
    ]


def test_docstrings_open_with_an_imperative_or_a_noun(words_of):
    code = (
        '"""{}"""\n\n\nclass A:\n    """{}"""\n\n    a: int\n    """{}"""\n\n'
        '    def f(self):\n        """{}"""\n'
    )
    bad = code.format("What a is.", "Whether.", "Where it is.", "\n        How it goes.")
    good = code.format("A module.", "Whatever.", "Place of a.", "Return what it is.")
    assert words_of("a.py", bad) == [(1, "What"), (5, "Whether."), (8, "Where"), (11, "How")]
    assert words_of("a.py", good) == []
    rule = 'rule a:\n    """Which one it is."""\n    input: "a"  # are let alone\n'
    assert words_of("a.smk", rule) == [(2, "Which"), (3, "let alone")]


def test_phrases_in_prose_but_not_in_code(words_of):
    assert words_of("a.py", '"""It befalls."""\n# This is in the\n# place of that.\n') == [
        (1, "befalls"),
        (2, "in the # place of"),
    ]
    assert words_of("a.py", "a = 'it befalls'\n") == []
    assert words_of("a.md", "It is made anew.\n\n```\nmade anew\n```\n") == [(1, "anew")]
    assert words_of("a.md", "Nobody asked to let alone the `anew` ones.\n") == []


GOOD = """# A heading. It may have two sentences

One sentence, e.g. this one of Cowan et al. (2011), with `code. Code` and [a link](a. B).
Another one ends in 0.5 and goes on. \t
**A lead.** A sentence.

```
code. More code
goes on
```

    indented. Code

| a table. | With two. |
|---|---|

- an item
- **Lead.** Another item.
  Its second sentence is here:
  and its third: here.
1. *A lead.* A sentence with "quotes."

![An image. Two sentences.](a.png)
"""


def test_good_markdown_passes(words_of):
    assert words_of("a.md", GOOD) == []


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("One. Two.", [1]),
        ("One sentence (with this). And two.", [1]),
        ("Is it? `It` is.", [1]),
        ("A sentence that\ngoes on.", [1]),
        ("- An item that\n  goes on.", [1]),
        ("- One.\n\n  A paragraph. Of two.", [3]),
        ("1. One.\n2. Two. Three.", [2]),
        (" ".join(["word"] * 41) + ".", [1]),
        ("> A quote that\n> goes on.", [1]),
    ],
)
def test_sentences_of_markdown(words_of, text, lines):
    assert [line for line, _ in words_of("a.md", text)] == lines
    assert [line for line, _ in words_of("a.rst", text)] == lines


def test_sentence_of_forty_words_passes(words_of):
    assert words_of("a.md", " ".join(["word"] * 40) + ".") == []


def test_exit_code_and_report(tmp_path, capsys):
    (tmp_path / "bad.py").write_text("made = 1\n")
    (tmp_path / "good.py").write_text("record = 1\n")
    assert check_words.main([str(tmp_path / "good.py")]) == 0
    assert capsys.readouterr().out == ""
    assert check_words.main([str(tmp_path)]) == 1
    assert f"{tmp_path}/bad.py:1: 'made'" in capsys.readouterr().out
    assert check_words.main([str(tmp_path / "absent.py")]) == 2


def test_exceptions_are_by_file_and_word(words_of, monkeypatch):
    monkeypatch.setattr(check_words, "ALLOWED", (("/a.py", "made"),))
    assert words_of("a.py", "made = found = 1\n") == [(1, "found")]
    assert words_of("b.py", "made = 1\n") == [(1, "made")]


def test_measures(tmp_path, capsys):
    package = tmp_path / "src" / "palletfit"
    (package / "core").mkdir(parents=True)
    (tmp_path / "scripts").mkdir()
    (tmp_path / "rules").mkdir()
    (package / "__init__.py").write_text("from palletfit.core.a import b\n")
    (package / "top.py").write_text("import palletfit.core.a\nfrom palletfit import core\n")
    (package / "core" / "__init__.py").write_text('"""Core."""\n')
    (package / "core" / "a.py").write_text('"""What a is."""\nfrom . import b\nfound = a = 1\n')
    (package / "core" / "b.py").write_text("def f(self, a): ...\n")
    (tmp_path / "rules" / "a.smk").write_text("rule a:\n    input: 1\n")
    assert check_words.main(["--measure", str(tmp_path)]) == 0
    report = " ".join(capsys.readouterr().out.split())
    assert "modules at the top 1 " in report
    assert "imports inside 25.0 % (1 of 4)" in report
    assert "vague names 25.0 % (1 of 4)" in report
    assert "question words 50.0 % (1 of 2)" in report
    assert "lines of src 8 lines of scripts 0 lines of rules 2" in report
