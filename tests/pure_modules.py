"""Names the files of the core for the check of their coverage: python -m tests.pure_modules."""

import sys
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parent.parent / "pyproject.toml"


def pure_files():
    """Give the files that the import contract `core` calls pure."""
    contracts = tomllib.loads(PROJECT.read_text())["tool"]["importlinter"]["contracts"]
    (core,) = [contract for contract in contracts if contract["id"] == "core"]
    return [name.replace(".", "/") + ".py" for name in core["source_modules"]]


if __name__ == "__main__":
    sys.stdout.write(",".join(pure_files()))
