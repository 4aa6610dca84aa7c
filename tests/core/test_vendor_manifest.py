"""The vendored browser files are those that were built, and each names its licence."""

import base64
import hashlib
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VENDOR = ROOT / "static/vendor"
MANIFEST = json.loads((VENDOR / "MANIFEST.json").read_text())
WANTED = json.loads((ROOT / "frontend/package.json").read_text())["devDependencies"]
LOCKED = json.loads((ROOT / "frontend/package-lock.json").read_text())["packages"]
FREE = {"MIT", "0BSD", "BSD-0-Clause", "ISC", "BSD-2-Clause"}


@pytest.mark.parametrize("entry", MANIFEST, ids=lambda entry: entry["file"])
def test_a_vendored_file_has_the_recorded_hash(entry):
    digest = hashlib.sha384((VENDOR / entry["file"]).read_bytes()).digest()
    assert base64.b64encode(digest).decode() == entry["sha384"]


def test_nothing_is_vendored_that_the_manifest_does_not_name():
    present = {file.name for file in VENDOR.iterdir()}
    assert present == {entry["file"] for entry in MANIFEST} | {"MANIFEST.json", "LICENSES.txt"}


def test_every_package_inside_is_free_and_its_licence_is_shipped():
    texts = (VENDOR / "LICENSES.txt").read_text()
    for package in (package for entry in MANIFEST for package in entry["packages"]):
        assert package["license"] in FREE
        assert f"{package['name']} {package['version']} ({package['license']})" in texts


def test_versions_are_exact_and_those_of_the_lock():
    for name, version in WANTED.items():
        assert re.fullmatch(r"\d+\.\d+\.\d+", version), name
        assert LOCKED[f"node_modules/{name}"]["version"] == version
    for package in (package for entry in MANIFEST for package in entry["packages"]):
        assert LOCKED[f"node_modules/{package['name']}"]["version"] == package["version"]


def test_the_lock_names_hashes_and_no_address_of_a_registry():
    assert all("resolved" not in entry for entry in LOCKED.values())
    packages = [entry for path, entry in LOCKED.items() if path]
    assert all(entry["integrity"].startswith("sha512-") for entry in packages)


def test_no_vendored_script_names_a_source_map_that_is_not_there():
    for entry in MANIFEST:
        assert "sourceMappingURL" not in (VENDOR / entry["file"]).read_text()


def test_our_own_scripts_stay_small():
    lines = {
        name: (ROOT / "static" / name).read_text().splitlines()
        for name in ("app.js", "editor.js", "theme.js")
    }
    assert len(lines["app.js"]) < 150
    assert sum(map(len, lines.values())) <= 400
