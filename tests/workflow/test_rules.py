"""What a reader of the terminal sees of every rule."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_rule_says_in_words_what_it_does() -> None:
    for file in sorted(ROOT.glob("rules/*.smk")):
        for rule in re.split(r"^ *(?=rule )", file.read_text(), flags=re.MULTILINE)[1:]:
            assert re.search(r"^ +message:", rule, re.MULTILINE), (file.name, rule.split(":")[0])


def test_targets_of_the_readme_are_offered_after_a_mistyped_one() -> None:
    rules = (ROOT / "rules" / "common.smk").read_text()
    (listed,) = re.findall(r"^TARGETS = \[\n(.*?)^\]", rules, re.MULTILINE | re.DOTALL)
    readme = (ROOT / "README.md").read_text()
    for name in ("all", "catalogue", "combine", "hepdata", "benchmark", "submit"):
        assert f'"{name}"' in listed
        assert name == "all" or name in readme
