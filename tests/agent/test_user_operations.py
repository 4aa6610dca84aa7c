"""Accounts and their keys, changed by the machine's own tools in a folder like a machine."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from agent.operations import user
from agent.operations.base import OperationError

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("useradd", path="/usr/sbin"),
    reason="needs root and the shadow tools",
)
PASSWD = """\
root:x:0:0:root:/root:/bin/sh
+::::::
nonsense
ada:x:3000:3000:Ada L.:/home/ada:/bin/sh
web:x:300:300::/srv/web:/usr/sbin/nologin
"""
GROUP = "root:x:0:\nada:x:3000:\nweb:x:300:\ncrew:x:1100:ada\nops:x:1101:web,ada\n"
HASH = "$6$saltsalt$" + "a" * 86
OTHER = "$y$j9T$salt.salt$" + "b" * 43
SHADOW = f"root:*:19000::::::\nada:{HASH}:19000::::::\nweb:!:19000::::::\n"


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """A folder with accounts, taken for the machine's root; accounts may go into it."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o755)
        for folder in ("etc", "bin", "usr/sbin", "home/ada"):
            (root / folder).mkdir(parents=True)
        for shell in ("bin/sh", "bin/bash", "usr/sbin/nologin"):
            (root / shell).touch()
        (root / "etc/passwd").write_text(PASSWD)
        (root / "etc/group").write_text(GROUP)
        (root / "etc/gshadow").write_text(
            "root:*::\nada:!::\nweb:!::\ncrew:!::ada\nops:!::web,ada\n"
        )
        (root / "etc/shadow").write_text(SHADOW)
        (root / "etc/login.defs").write_text(
            "UID_MIN 1000\nUID_MAX 60000\nGID_MIN 1000\nGID_MAX 60000\nUSERGROUPS_ENAB yes\n"
        )
        os.chown(root / "home/ada", 3000, 3000)
        monkeypatch.setattr("agent.operations.base.ROOT", root)
        yield root


def do(operation, /, **params):
    return user.HANDLERS[f"user.{operation}"](params)


def refused(code, operation, /, **params):
    with pytest.raises(OperationError) as caught:
        do(operation, **params)
    assert caught.value.code == code
    return str(caught.value)


def field(machine, name):
    rows = [line.split(":") for line in (machine / "etc/shadow").read_text().splitlines()]
    return next(row[1] for row in rows if row[0] == name)


# --- Accounts ------------------------------------------------------------------------------------


def test_accounts_are_told_without_any_hash():
    told = do("account.list")
    assert told.changed is None
    assert [account["name"] for account in told.data["users"]] == ["ada", "root", "web"]
    assert told.data["users"][0] == {
        "name": "ada",
        "uid": 3000,
        "gid": 3000,
        "group": "ada",
        "groups": ["crew", "ops"],
        "comment": "Ada L.",
        "home": "/home/ada",
        "shell": "/bin/sh",
        "has_password": True,
        "locked": False,
    }
    assert "$6$" not in repr(told)


def test_locked_is_told_apart_from_never_set(machine):
    (machine / "etc/shadow").write_text(f"root:*:1::::::\nada:!{HASH}:1::::::\nweb:!!:1::::::\n")
    told = {account["name"]: account for account in do("account.list").data["users"]}
    assert (told["ada"]["has_password"], told["ada"]["locked"]) == (True, True)
    assert (told["web"]["has_password"], told["web"]["locked"]) == (False, True)
    assert (told["root"]["has_password"], told["root"]["locked"]) == (False, False)


def test_where_nothing_is_known_of_passwords_nothing_is_claimed(machine):
    (machine / "etc/shadow").unlink()
    account = do("account.get", name="ada").data["user"]
    assert (account["has_password"], account["locked"]) == (None, None)


def test_an_unknown_account_is_not_found():
    assert "ghost" in refused("not_found", "account.get", name="ghost")


def test_an_account_that_is_made_twice_is_made_once(machine):
    wanted = {
        "name": "eve",
        "uid": 1500,
        "gid": 1100,
        "home": "/home/eve",
        "shell": "/bin/bash",
        "groups": ["ops"],
        "password": OTHER,
    }
    first, second = do("account.create", **wanted), do("account.create", **wanted)
    assert (first.changed, second.changed) == (True, False)
    account = first.data["user"]
    assert first.data == second.data
    assert (account["uid"], account["group"], account["groups"]) == (1500, "crew", ["ops"])
    assert (account["shell"], account["has_password"], account["locked"]) == (
        "/bin/bash",
        True,
        False,
    )
    assert field(machine, "eve") == OTHER
    assert (machine / "home/eve").stat().st_uid == 1500
    assert OTHER not in repr(first)


def test_an_account_of_the_system_gets_no_home(machine):
    account = do("account.create", name="svc", system=True).data["user"]
    assert account["uid"] < 1000
    assert not (machine / "home/svc").exists()


def test_an_account_that_is_another_is_a_conflict_that_names_what():
    message = refused("conflict", "account.create", name="ada", uid=7, groups=["crew"])
    assert "uid, groups" in message
    message = refused("conflict", "account.create", name="ada", password=OTHER)
    assert "password" in message
    assert "$" not in message
    assert "not unique" in refused("conflict", "account.create", name="eve", uid=3000)


def test_a_password_that_was_not_set_yet_is_set_by_the_second_attempt(machine):
    assert do("account.create", name="web", password=HASH).changed is True
    assert field(machine, "web") == HASH


def test_an_unknown_group_makes_no_account(machine):
    assert "ghosts" in refused("not_found", "account.create", name="eve", groups=["ghosts"])
    refused("not_found", "account.get", name="eve")


@pytest.mark.parametrize(
    "wrong",
    [
        {"shell": "/bin/missing"},
        {"shell": "sh"},
        {"home": "home/eve"},
        {"home": "/home/../root"},
        {"home": "/home/eve:0"},
        {"home": "/home/eve\nroot"},
        {"groups": ["ops,root"]},
        {"groups": ["-a"]},
    ],
)
def test_wrong_values_are_refused_before_anything_is_done(machine, wrong):
    refused("invalid_value", "account.create", name="eve", **wrong)
    refused("invalid_value", "account.update", name="ada", **wrong)
    assert (machine / "etc/passwd").read_text() == PASSWD


def test_shell_home_and_groups_are_changed_once(machine):
    wanted = {"name": "ada", "shell": "/bin/bash", "home": "/srv/ada", "groups": ["web"]}
    first, second = do("account.update", **wanted), do("account.update", **wanted)
    assert (first.changed, second.changed) == (True, False)
    account = second.data["user"]
    assert (account["shell"], account["home"]) == ("/bin/bash", "/srv/ada")
    assert account["groups"] == ["web"]
    assert (machine / "home/ada").is_dir()


def test_what_is_not_given_stays():
    before = do("account.get", name="ada").data
    told = do("account.update", name="ada", shell="/bin/bash")
    assert told.data["user"] == {**before["user"], "shell": "/bin/bash"}
    assert do("account.update", name="ada").changed is False


def test_no_groups_take_an_account_out_of_all():
    assert do("account.update", name="ada", groups=["ops", "crew"]).changed is False
    told = do("account.update", name="ada", groups=[])
    assert (told.changed, told.data["user"]["groups"]) == (True, [])


def test_its_own_group_may_be_named_among_the_groups():
    do("account.update", name="ada", groups=["ada", "ops"])
    told = do("account.update", name="ada", groups=["ada", "ops"])
    assert (told.changed, told.data["user"]["groups"]) == (False, ["ops"])


def test_a_lock_bars_the_password_and_gives_it_back(machine):
    first, again = (do("account.update", name="ada", lock=True) for _ in range(2))
    assert (first.changed, again.changed, again.data["user"]["locked"]) == (True, False, True)
    assert field(machine, "ada") == f"!{HASH}"
    freed, again = (do("account.update", name="ada", lock=False) for _ in range(2))
    assert (freed.changed, again.changed, again.data["user"]["locked"]) == (True, False, False)
    assert field(machine, "ada") == HASH


def test_without_a_password_there_is_nothing_to_unlock(machine):
    assert do("account.update", name="web", lock=False).changed is False
    assert field(machine, "web") == "!"


def test_an_account_is_removed_once_and_its_files_stay(machine):
    first = do("account.delete", name="ada")
    assert (first.changed, first.data["home_kept"]) == (True, "/home/ada")
    assert do("account.delete", name="ada").changed is False
    assert (machine / "home/ada").is_dir()


def test_root_stays():
    assert "root" in refused("forbidden", "account.delete", name="root")


@pytest.mark.parametrize("name", ["../x", "-rf", "a:b", "a\nb", "", ".ssh", "ada,web"])
@pytest.mark.parametrize("operation", sorted(set(user.HANDLERS) - {"user.account.list"}))
def test_a_name_is_never_a_path_an_option_or_two_fields(machine, operation, name):
    refused("invalid_value", operation.removeprefix("user."), name=name, password=HASH)
    assert (machine / "etc/passwd").read_text() == PASSWD
    assert (machine / "etc/shadow").read_text() == SHADOW


# --- Passwords -----------------------------------------------------------------------------------


def test_a_password_is_set_once(machine):
    first, second = (do("password.update", name="ada", password=OTHER) for _ in range(2))
    assert (first.changed, second.changed) == (True, False)
    assert field(machine, "ada") == OTHER
    assert first.data == {"name": "ada"}


def test_a_new_password_does_not_open_a_locked_account(machine):
    do("account.update", name="ada", lock=True)
    assert do("password.update", name="ada", password=OTHER).changed is True
    assert field(machine, "ada") == f"!{OTHER}"


def test_what_openssl_prints_is_taken(machine):
    argv = ["openssl", "passwd", "-6", "-stdin"]
    done = subprocess.run(argv, input="secret\n", capture_output=True, text=True, check=True)
    do("password.update", name="ada", password=done.stdout.strip())
    assert field(machine, "ada") == done.stdout.strip()


@pytest.mark.parametrize(
    "wrong", ["hunter2", "", "$6$short", f"{HASH}:0", f"{HASH}\nroot:{HASH}", "$1$a b$" + "c" * 22]
)
def test_a_password_itself_is_refused_and_not_repeated(machine, wrong):
    for operation in ("password.update", "account.create"):
        message = refused("invalid_value", operation, name="ada", password=wrong)
        assert "openssl passwd -6" in message
        assert not wrong or wrong not in message
    assert (machine / "etc/shadow").read_text() == SHADOW


def test_the_password_of_nobody_is_not_found():
    refused("not_found", "password.update", name="ghost", password=HASH)


# --- Keys ----------------------------------------------------------------------------------------


def made_key(folder, kind, comment="ada@desk"):
    path = folder / f"key-{kind}"
    argv = ["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", comment, "-f", str(path)]
    subprocess.run(argv, check=True)
    printed = subprocess.run(
        ["ssh-keygen", "-lf", path], capture_output=True, text=True, check=True
    )
    return Path(f"{path}.pub").read_text().strip(), printed.stdout.split()[1]


@pytest.fixture
def key(tmp_path):
    return made_key(tmp_path, "ed25519")


@pytest.fixture
def authorized(machine):
    return machine / "home/ada/.ssh/authorized_keys"


@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa"])
def test_a_key_is_told_as_ssh_keygen_tells_it(tmp_path, kind):
    line, fingerprint = made_key(tmp_path, kind)
    told = do("key.create", name="ada", key=line)
    assert (told.changed, told.data["key"]["fingerprint"]) == (True, fingerprint)
    assert do("key.list", name="ada").data["keys"] == [
        {
            "fingerprint": fingerprint,
            "type": line.split()[0],
            "comment": "ada@desk",
            "options": "",
        }
    ]


def test_a_key_that_is_there_already_changes_nothing(authorized, key):
    assert do("key.create", name="ada", key=key[0]).changed is True
    again = " ".join([*key[0].split()[:2], "another comment"])
    assert do("key.create", name="ada", key=f"{again}\n").changed is False
    assert authorized.read_text() == f"{key[0]}\n"


def test_the_files_are_the_accounts_own_and_closed_to_others(authorized, key):
    do("key.create", name="ada", key=key[0])
    for path, mode in ((authorized.parent, 0o700), (authorized, 0o600)):
        about = path.stat()
        assert (about.st_uid, about.st_gid, about.st_mode & 0o777) == (3000, 3000, mode)


def test_modes_that_are_too_open_are_mended(authorized, key):
    do("key.create", name="ada", key=key[0])
    authorized.chmod(0o666)
    assert do("key.create", name="ada", key=key[0]).changed is True
    assert authorized.stat().st_mode & 0o777 == 0o600
    assert do("key.create", name="ada", key=key[0]).changed is False


def test_a_file_that_root_made_becomes_the_accounts_own(authorized, key):
    authorized.parent.mkdir()
    os.chown(authorized.parent, 3000, 3000)
    authorized.write_text("# by hand")
    do("key.create", name="ada", key=key[0])
    assert authorized.read_text() == f"# by hand\n{key[0]}\n"
    assert authorized.stat().st_uid == 3000


def test_other_lines_stay_as_they_are(authorized, key, tmp_path):
    do("key.create", name="ada", key=key[0])
    other, fingerprint = made_key(tmp_path, "ecdsa", "two words")
    lines = ["# mine", "", f'command="echo \\"a b\\"",no-pty {other}', "ssh-rsa broken", key[0]]
    authorized.write_text("\n".join(lines))
    told = do("key.list", name="ada").data["keys"]
    assert {(k["fingerprint"], k["comment"]) for k in told} == {
        (key[1], "ada@desk"),
        (fingerprint, "two words"),
    }
    assert 'command="echo \\"a b\\"",no-pty' in {k["options"] for k in told}
    assert do("key.delete", name="ada", fingerprint=key[1]).changed is True
    assert authorized.read_text().splitlines() == lines[:-1]


def test_a_key_is_removed_once(key):
    do("key.create", name="ada", key=key[0])
    bare = key[1].removeprefix("SHA256:")
    told = do("key.delete", name="ada", fingerprint=bare)
    assert (told.changed, told.data["fingerprint"]) == (True, key[1])
    assert do("key.delete", name="ada", fingerprint=key[1]).changed is False
    assert do("key.list", name="ada").data["keys"] == []


def test_without_a_file_there_are_no_keys(authorized):
    assert do("key.list", name="ada").data["keys"] == []
    assert do("key.delete", name="ada", fingerprint="A" * 43).changed is False
    assert not authorized.exists()


def test_a_link_does_not_lead_root_where_the_account_may_not_go(machine, authorized, key):
    closed = machine / "root/.ssh"
    closed.mkdir(parents=True, mode=0o700)
    authorized.parent.symlink_to("../../root/.ssh")
    refused("operation_failed", "key.create", name="ada", key=key[0])
    assert list(closed.iterdir()) == []


def test_a_pipe_in_place_of_the_file_keeps_nobody_waiting(authorized):
    authorized.parent.mkdir(mode=0o755)
    os.mkfifo(authorized)
    refused("conflict", "key.list", name="ada")


def test_an_account_without_a_home_can_hold_no_keys(key):
    assert "/srv/web" in refused("not_found", "key.create", name="web", key=key[0])
    refused("not_found", "key.list", name="ghost")


def test_only_one_well_formed_public_key_is_taken(authorized, key, tmp_path):
    kind, blob, comment = key[0].split()
    wrong = [
        "",
        "ada@desk",
        f"{key[0]}\n{key[0]}",
        f'command="rm" {key[0]}',
        f"ssh-rsa {blob}",
        f"{kind} {blob[:-8]} {comment}",
        f"{kind} {blob}AAAA {comment}",
        f"{kind} not+base64= {comment}",
        (tmp_path / "key-ed25519").read_text(),
    ]
    for text in wrong:
        assert ".pub" in refused("invalid_value", "key.create", name="ada", key=text)
    assert not authorized.exists()


@pytest.mark.parametrize("fingerprint", ["", "SHA256:", "../x", "MD5:aa:bb", "A" * 42])
def test_a_fingerprint_has_one_form(fingerprint):
    refused("invalid_value", "key.delete", name="ada", fingerprint=fingerprint)


# --- What a machine offers -----------------------------------------------------------------------


def test_without_the_tools_accounts_are_only_told(machine, monkeypatch):
    assert set(user.available()) == set(user.HANDLERS)
    monkeypatch.setattr("agent.operations.base.PATH", str(machine))
    assert "user.account.list" in user.available()
    assert "user.account.create" not in user.available()
    assert "user.password.update" not in user.available()
