"""Packages: the real dpkg-query is asked, and stand-ins install and remove."""

import os
import shutil

import pytest

from agent.operations import package
from agent.operations.base import OperationError
from nodes.operations import OPERATIONS


def do(name, /, **params):
    return package.HANDLERS[f"package.{name}"](params)


def code_of(name, /, **params):
    with pytest.raises(OperationError) as caught:
        do(name, **params)
    return caught.value.code


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """A machine without any package manager, and its folder of programs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (tmp_path / "calls").touch()
    # What the stand-ins themselves need; the package managers of this machine are out of reach.
    for name in ("cat", "rm", "grep"):
        (folder / name).symlink_to(shutil.which(name))
    monkeypatch.setattr("agent.operations.base.ROOT", tmp_path / "root")
    monkeypatch.setattr("agent.operations.base.PATH", str(folder))
    return folder


@pytest.fixture
def stand_in(programs, tmp_path):
    """Make a program that notes what it is asked, and then does as the text says."""

    def make(name, text=""):
        tool = programs / name
        head = f'cd {tmp_path}\nfor name; do :; done\necho "{name} $*" >> calls'
        tool.write_text(f"#!/bin/sh\n{head}\n{text}\n")
        tool.chmod(0o755)

    return make


@pytest.fixture
def calls(tmp_path):
    return lambda: (tmp_path / "calls").read_text().splitlines()


@pytest.fixture
def said(tmp_path):
    """Write what a stand-in says."""
    return lambda name, text: (tmp_path / name).write_text(text)


@pytest.fixture
def apt(stand_in):
    """Have apt, with an index of two packages of which none is installed."""
    row = "$name\\tamd64\\t1.0-2\\tinstalled\\t12\\tIt does\\n"
    stand_in("dpkg-query", f'[ -e have-$name ] && printf "{row}" || exit 1')
    stand_in("apt-cache", "echo tree; echo tree-dev")
    stand_in(
        "apt-get",
        '[ "$DEBIAN_FRONTEND" = noninteractive ] || exit 9\n'
        'case " $* " in *" install "*) : > have-$name;; *" remove "*) rm have-$name;; esac',
    )


def changes(calls, tool):
    return [line for line in calls() if line.startswith(f"{tool} ")]


TREE = {
    "name": "tree",
    "architecture": "amd64",
    "version": "1.0-2",
    "size": 12 * 1024,
    "description": "It does",
}


def test_a_package_is_installed_once(apt, calls):
    first, second = do("entry.install", name="tree"), do("entry.install", name="tree")
    assert (first.changed, second.changed) == (True, False)
    assert first.data == second.data == {"package": TREE}
    (call,) = changes(calls, "apt-get")
    assert call.endswith(" install -- tree")
    assert "--assume-yes" in call
    assert "--force-confold" in call


def test_a_package_is_removed_once(apt, calls):
    do("entry.install", name="tree")
    first, second = do("entry.delete", name="tree"), do("entry.delete", name="tree")
    assert (first.changed, second.changed) == (True, False)
    assert first.data == {"name": "tree", "removed": TREE}
    assert len(changes(calls, "apt-get")) == 2


def test_a_name_that_apt_would_take_for_a_pattern_is_not_found(apt, calls):
    assert code_of("entry.install", name="tr.e") == "not_found"
    assert code_of("entry.install", name="tre") == "not_found"
    assert changes(calls, "apt-get") == []


def test_an_install_that_brings_nothing_is_an_error(apt, stand_in):
    stand_in("apt-get")
    with pytest.raises(OperationError, match="still not installed"):
        do("entry.install", name="tree")


def test_a_removal_that_takes_nothing_is_an_error(apt, stand_in):
    do("entry.install", name="tree")
    stand_in("apt-get")
    with pytest.raises(OperationError, match="still installed"):
        do("entry.delete", name="tree")


def test_what_apt_says_of_a_failure_is_told(apt, stand_in):
    stand_in("apt-get", "echo 'E: Could not get lock' >&2; exit 100")
    with pytest.raises(OperationError, match="Could not get lock"):
        do("entry.install", name="tree")


@pytest.mark.parametrize("name", ["../x", "-rf", "tree-", "a/b", "a=1", "a*", "", "a b", "a..b"])
def test_a_bad_name_is_refused_before_anything_is_asked(apt, calls, name):
    for operation in ("entry.get", "entry.install", "entry.delete"):
        assert code_of(operation, name=name) == "invalid_value"
    assert calls() == []


def test_names_with_a_plus_are_names(apt):
    assert code_of("entry.get", name="g++") == "not_found"


def test_packages_that_only_left_their_settings_are_not_installed(apt, stand_in):
    stand_in(
        "dpkg-query",
        "printf 'b\\tamd64\\t2\\tinstalled\\t\\tB\\n"
        "a\\tamd64\\t1\\tconfig-files\\t5\\tA\\nremark\\nb\\tarm64\\t1\\tinstalled\\tx\\tB\\n'",
    )
    packages = do("entry.list").data["packages"]
    told = [(each["name"], each["architecture"], each["size"]) for each in packages]
    assert told == [("b", "amd64", None), ("b", "arm64", None)]


def test_a_broken_database_is_an_error_and_no_empty_list(apt, stand_in):
    stand_in("dpkg-query", "echo 'error: parsing file status' >&2; exit 2")
    with pytest.raises(OperationError, match="parsing file"):
        do("entry.list")


def test_upgrades_of_apt_are_told_without_new_packages(apt, stand_in, said, calls):
    said(
        "upgrades",
        "NOTE: This is only a simulation!\n"
        "Inst libc6 [2.36-9] (2.36-10 Debian:12.5/stable, Debian:12/x [amd64])\n"
        "Inst bash [5.2-1] (5.2-2 Debian-Security:12/stable-security [arm64]) []\n"
        "Inst linux-image-9 (9.1-1 Debian:12.5/stable [amd64])\n"
        "Conf libc6 (2.36-10 Debian:12.5/stable [amd64])\n",
    )
    stand_in("apt-get", "cat upgrades")
    answer = do("update.list")
    assert answer.changed is None
    assert answer.data["updates"] == [
        {"name": "bash", "architecture": "arm64", "version": "5.2-1", "new_version": "5.2-2"},
        {"name": "libc6", "architecture": "amd64", "version": "2.36-9", "new_version": "2.36-10"},
    ]
    assert calls() == ["apt-get --quiet --simulate dist-upgrade"]


@pytest.mark.parametrize(
    ("text", "is_changed"),
    [("Hit:1 http://x stable InRelease", False), ("Get:1 http://x stable InRelease", True)],
)
def test_a_new_index_says_whether_it_brought_anything(apt, stand_in, text, is_changed):
    stand_in("apt-get", f"echo 'Reading'; echo '{text}'")
    assert do("index.update").changed is is_changed


@pytest.fixture
def dnf(stand_in):
    row = "$name\\tnoarch\\t1-2.fc40\\t77\\tIt does\\n"
    stand_in("rpm", f'[ -e have-$name ] && printf "{row}" || {{ echo not installed; exit 1; }}')
    stand_in(
        "dnf",
        'case " $* " in *" install "*) : > have-$name;; *" remove "*) rm have-$name;; esac',
    )


def test_dnf_installs_and_removes_once(dnf, calls):
    names = ("install", "install", "delete", "delete")
    answers = [do(f"entry.{name}", name="tree") for name in names]
    assert [answer.changed for answer in answers] == [True, False, True, False]
    assert answers[0].data["package"]["size"] == 77
    assert changes(calls, "dnf") == [
        "dnf --assumeyes --quiet install tree",
        "dnf --assumeyes --quiet remove tree",
    ]


def test_a_name_with_a_version_is_no_package_of_rpm(dnf, stand_in):
    stand_in("rpm", "printf 'tree\\tnoarch\\t1-2\\t77\\tT\\n'")
    assert code_of("entry.get", name="tree-1-2") == "not_found"
    assert do("entry.get", name="tree").data["package"]["version"] == "1-2"


def test_upgrades_of_dnf_are_told_with_the_installed_version(dnf, stand_in):
    stand_in("rpm", "printf 'bash\\tx86_64\\t5.1-1\\t7\\tB\\n'")
    stand_in("dnf", "printf 'bash\\tx86_64\\t5.2-1\\n\\nLast check: now\\nzsh\\tnoarch\\t6-1\\n'")
    assert do("update.list").data["updates"] == [
        {"name": "bash", "architecture": "x86_64", "version": "5.1-1", "new_version": "5.2-1"},
        {"name": "zsh", "architecture": "noarch", "version": None, "new_version": "6-1"},
    ]


def test_dnf_reads_its_index_anew(dnf, calls):
    assert do("index.update").changed is True
    assert calls() == ["dnf --quiet --refresh makecache"]


DATABASE = """C:Q1abc=
P:musl
V:1.2.4-r2
A:x86_64
I:634880
T:the musl C library
F:lib
R:ld-musl-x86_64.so.1

P:py3-yaml
V:6.0-r1
A:x86_64

"""


@pytest.fixture
def apk(stand_in, tmp_path):
    database = tmp_path / "root/lib/apk/db/installed"
    database.parent.mkdir(parents=True)
    database.write_text(DATABASE)
    stand_in(
        "apk",
        f'case "$1" in add) printf "P:$name\\nV:1-r0\\n\\n" >> {database};;\n'
        f'del) grep -v "P:$name" {database} > new; cat new > {database};; esac',
    )


def test_apks_database_is_read(apk):
    musl, yaml = do("entry.list").data["packages"]
    assert musl == {
        "name": "musl",
        "architecture": "x86_64",
        "version": "1.2.4-r2",
        "size": 634880,
        "description": "the musl C library",
    }
    assert (yaml["name"], yaml["size"], yaml["description"]) == ("py3-yaml", None, "")


def test_apk_installs_and_removes_once(apk, calls):
    names = ("install", "install", "delete", "delete")
    answers = [do(f"entry.{name}", name="tree") for name in names]
    assert [answer.changed for answer in answers] == [True, False, True, False]
    assert calls() == ["apk add -- tree", "apk del -- tree"]


def test_upgrades_of_apk_are_told(apk, stand_in, said):
    said("upgrades", "Installed:     Available:\nmusl-1.2.4-r2   < 1.2.5-r0 \nWARNING: old\n")
    stand_in("apk", "cat upgrades")
    assert do("update.list").data["updates"] == [
        {
            "name": "musl",
            "architecture": "x86_64",
            "version": "1.2.4-r2",
            "new_version": "1.2.5-r0",
        }
    ]


def test_apk_reads_its_index_anew(apk, calls):
    assert do("index.update").changed is True
    assert calls() == ["apk update"]


@pytest.mark.skipif(shutil.which("dpkg-query") is None, reason="only Debian has dpkg")
def test_this_machines_own_packages_are_listed_and_got():
    packages = do("entry.list").data["packages"]
    names = [each["name"] for each in packages]
    assert names == sorted(names)
    dpkg = next(each for each in packages if each["name"] == "dpkg")
    assert dpkg["size"] > 0
    assert do("entry.get", name="dpkg").data["package"] == dpkg
    assert code_of("entry.get", name="no-such-package") == "not_found"


def test_only_root_is_offered_changes(apt, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert set(package.available()) == set(package.HANDLERS)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert set(package.available()) == {
        "package.entry.list",
        "package.entry.get",
        "package.update.list",
    }


def test_nothing_is_offered_without_a_package_manager(programs):
    assert list(package.available()) == []
    assert code_of("entry.list") == "not_found"


def test_every_operation_of_the_registry_is_done():
    names = {row.name for row in OPERATIONS.values() if row.domain == "package"}
    assert set(package.HANDLERS) == names
