"""Every number that the code cites stands in docs/semantics.md."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "semantics.md").read_text()
CITED = re.compile(r"(?<![\w-])[XC]\d{2,3}(?!\w)|(?<=semantics\.md )\d(?:\.\d+)?")
# A word of certificates, not a rule.
NO_RULE = {"X509"}


def cited_in(path):
    if path == Path(__file__):
        return set()
    return set(CITED.findall(path.read_text())) - NO_RULE


def sources():
    listed = subprocess.run(
        ["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [ROOT / name for name in listed.stdout.split()]


def test_every_cited_rule_and_section_is_on_the_page():
    known = set(re.findall(r"^### (\d\.\d+)|^## (\d)\.", PAGE, re.MULTILINE))
    numbers = {section or part for section, part in known}
    rows = re.findall(r"^\| ([XC\d, ]+) \|", PAGE, re.MULTILINE)
    rules = {rule for row in rows for rule in row.split(", ")}
    missing = {
        f"{path.relative_to(ROOT)}: {number}"
        for path in sources()
        if path.exists()
        for number in cited_in(path)
        if number not in numbers | rules
    }
    assert missing == set()
