"""Containers and images, with a stand-in for docker that keeps its state in a file."""

import json
import os
import sys

import pytest

from agent.operations import docker
from agent.operations.base import OperationError

STAND_IN = r"""#!{python}
import json, os, pathlib, sys
here = pathlib.Path(__file__).parent
state = json.loads((here / "state.json").read_text())
with (here / "calls.jsonl").open("a") as calls:
    calls.write(json.dumps(sys.argv[1:]) + "\n")
_, kind, *rest = sys.argv
verb, rest = (rest[0], rest[1:]) if kind in ("container", "image") else ("", rest)
split = rest.index("--") if "--" in rest else len(rest)
options, names = rest[:split], rest[split + 1 :]
found = state[kind] if kind in state else {{}}

def fail(text, code=1):
    print(text, file=sys.stderr)
    sys.exit(code)

def key_of(name):
    for key, thing in found.items():
        if key.startswith(name) or thing.get("Name") == "/" + name or thing.get("ref") == name:
            return key
    return None

def option(name):
    return [o.split("=", 1)[1] for o in options if o.startswith(f"--{{name}}=")]

def create():
    image, *command = names
    if image not in [i["ref"] for i in state["image"].values()]:
        fail(f"Unable to find image {{image}} locally\nError response from daemon: "
             f"pull access denied for {{image}}, repository does not exist or may require login", 125)
    key = f"{{len(found) + 1:064x}}"
    ports = {{}}
    for port in option("publish"):
        *outer, inner = port.rsplit(":", 1)
        ip, _, host = outer[0].rpartition(":") if outer else ("", "", "")
        ports.setdefault(inner, []).append({{"HostIp": ip.strip("[]"), "HostPort": host}})
    volumes = option("volume")
    found[key] = {{
        "Id": key, "Name": "/" + (option("name") or ["jolly_noyce"])[0], "Image": "sha256:1",
        "Created": "2026-01-02T03:04:05.6Z",
        "State": {{"Status": "created", "Running": False, "ExitCode": 0,
                  "StartedAt": "0001-01-01T00:00:00Z", "FinishedAt": "0001-01-01T00:00:00Z"}},
        "Config": {{"Image": image, "Hostname": (option("hostname") or [key[:12]])[0],
                   "Cmd": command or ["serve"], "Env": [*option("env"), "PATH=/bin"],
                   "Volumes": {{v: {{}} for v in volumes if ":" not in v}} or None}},
        "HostConfig": {{"Dns": option("dns") or None, "PortBindings": ports,
                       "Binds": [v for v in volumes if ":" in v] or None}},
    }}
    print(key)

if kind == "version":
    if state["daemon"] == "silent":
        os.execvp("sleep", ["sleep", "60"])
    fail("Cannot connect to the Docker daemon") if state["daemon"] == "down" else print("{{}}")
elif (kind, verb) == ("container", "ls"):
    wanted = [o.rpartition("=")[2] for o in options or rest if o.startswith("--filter=status=")]
    for key, thing in reversed(found.items()):
        if not wanted or thing["State"]["Status"] in wanted:
            print(json.dumps({{"ID": key, "Names": thing["Name"][1:]}}))
elif verb == "inspect":
    print(json.dumps([found[key_of(n)] for n in names if key_of(n)]))
    for name in names:
        if not key_of(name):
            fail(f"Error response from daemon: No such {{kind}}: {{name}}")
elif (kind, verb) == ("container", "create"):
    create()
elif (kind, verb) == ("image", "pull"):
    if names[0].startswith("nope"):
        fail(f"Error response from daemon: manifest for {{names[0]}} not found: manifest unknown")
    newest = state["registry"]
    old = key_of(names[0])
    if old:
        del found[old]
    found[newest] = {{"Id": newest, "ref": names[0], "RepoDigests": ["b@2", "a@1"], "Size": 7}}
elif (kind, verb) == ("container", "exec"):
    print("out", *options, *names[1:], flush=True)
    print("err", file=sys.stderr)
    sys.exit(int(names[-1]) if names[-1].isdigit() else 0)
elif verb == "rm":
    key = key_of(names[0])
    if kind == "image" and any(c["Config"]["Image"] == names[0] for c in state["container"].values()):
        fail(f"Error response from daemon: conflict: unable to remove repository reference {{names[0]}}")
    del found[key]
elif verb in ("start", "stop"):
    key = key_of(names[0])
    if verb == "start" and "fail" in found[key]["Config"]["Cmd"]:
        fail("Error response from daemon: driver failed: port is already allocated")
    running = verb == "start"
    found[key]["State"].update(
        Running=running, Status="running" if running else "exited", ExitCode=0 if running else 143,
        StartedAt="2026-01-02T03:04:06Z")
else:
    fail(f"docker: unknown {{sys.argv}}", 125)
(here / "state.json").write_text(json.dumps(state))
"""
WANTED = {
    "image": "nginx",
    "name": "web",
    "hostname": "web.example",
    "dns": ["10.0.0.1"],
    "command": ["serve", "--all"],
    "env": ["TOKEN=s3cret", "EMPTY="],
    "ports": ["8080:80", "127.0.0.1:53:53/udp", "[::1]::443", "9"],
    "volumes": ["/srv:/data:ro", "cache:/cache", "/scratch"],
}


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """A folder with the stand-in; the images nginx and busybox:1 are there."""
    tool = tmp_path / "docker"
    tool.write_text(STAND_IN.format(python=sys.executable))
    tool.chmod(0o755)
    images = {
        f"sha256:{n}": {"Id": f"sha256:{n}", "ref": ref}
        for n, ref in enumerate(["nginx", "busybox:1"])
    }
    state = {"container": {}, "image": images, "daemon": "up", "registry": "sha256:new"}
    (tmp_path / "state.json").write_text(json.dumps(state))
    monkeypatch.setattr("agent.operations.base.PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def do(operation, /, **params):
    return docker.HANDLERS[f"docker.{operation}"](params)


def refused(code, operation, /, **params):
    with pytest.raises(OperationError) as caught:
        do(operation, **params)
    assert caught.value.code == code
    return str(caught.value)


def calls(machine, *verbs):
    """Return what docker was asked, of these verbs."""
    lines = (machine / "calls.jsonl").read_text().splitlines()
    return [call for call in map(json.loads, lines) if call[1] in verbs]


def put(machine, **values):
    path = machine / "state.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


# --- Containers ----------------------------------------------------------------------------------


def test_a_container_is_made_as_wished_and_started(machine):
    told = do("container.create", **WANTED)
    assert told.changed is True
    assert calls(machine, "create")[0] == [
        "container",
        "create",
        "--name=web",
        "--hostname=web.example",
        "--dns=10.0.0.1",
        "--env=TOKEN=s3cret",
        "--env=EMPTY=",
        "--publish=8080:80/tcp",
        "--publish=127.0.0.1:53:53/udp",
        "--publish=[::1]::443/tcp",
        "--publish=9/tcp",
        "--volume=/srv:/data:ro",
        "--volume=cache:/cache",
        "--volume=/scratch",
        "--",
        "nginx",
        "serve",
        "--all",
    ]
    assert told.data["container"] == {
        "id": "1".rjust(64, "0"),
        "name": "web",
        "image": "nginx",
        "image_id": "sha256:1",
        "state": "running",
        "running": True,
        "exit_code": None,
        "created": "2026-01-02T03:04:05.6Z",
        "started_at": "2026-01-02T03:04:06Z",
        "finished_at": None,
        "hostname": "web.example",
        "command": ["serve", "--all"],
        "dns": ["10.0.0.1"],
        "ports": ["127.0.0.1:53:53/udp", "8080:80/tcp", "9/tcp", "[::1]::443/tcp"],
        "volumes": ["/srv:/data:ro", "cache:/cache"],
    }
    assert "s3cret" not in repr(told)


def test_a_container_that_is_there_as_wished_changes_nothing(machine):
    do("container.create", **WANTED)
    again = {**WANTED, "image": "nginx:latest", "ports": ["9/tcp", *WANTED["ports"][:3]]}
    assert do("container.create", **again).changed is False
    assert len(calls(machine, "create", "start")) == 2


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("image", "busybox:1"),
        ("hostname", "other"),
        ("dns", []),
        ("command", ["sleep"]),
        ("env", ["TOKEN=other"]),
        ("ports", ["8080:81"]),
        ("volumes", ["/srv:/data"]),
    ],
)
def test_another_container_of_the_name_is_a_conflict_that_names_what(key, value):
    do("container.create", **WANTED)
    message = refused("conflict", "container.create", **{**WANTED, key: value})
    assert f"another {key};" in message
    assert "s3cret" not in message


def test_without_a_name_every_container_is_new(machine):
    assert [do("container.create", image="nginx").changed for _ in range(2)] == [True, True]
    assert len(calls(machine, "create")) == 2


def test_a_container_need_not_be_started(machine):
    told = do("container.create", image="nginx", name="web", auto_start=False)
    assert (told.changed, told.data["container"]["state"]) == (True, "created")
    assert told.data["container"]["started_at"] is None
    assert do("container.create", image="nginx", name="web", auto_start=False).changed is False
    assert do("container.create", image="nginx", name="web").changed is True


def test_a_container_that_cannot_start_says_why():
    wanted = {"image": "nginx", "name": "web", "command": ["fail"]}
    assert "already allocated" in refused("operation_failed", "container.create", **wanted)
    assert do("container.get", id="web").data["container"]["running"] is False


def test_an_image_that_is_nowhere_is_not_found():
    assert "ghost" in refused("not_found", "container.create", image="ghost")


def test_containers_are_told_by_state_sorted_by_name(machine):
    for name in ("c", "a", "b"):
        do("container.create", image="nginx", name=name, auto_start=name != "b")
    do("container.stop", id="c")
    names = {
        state: [c["name"] for c in do("container.list", state=state).data["containers"]]
        for state in ("all", "running", "stopped")
    }
    assert names == {"all": ["a", "b", "c"], "running": ["a"], "stopped": ["b", "c"]}
    few = do("container.list", limit=2)
    assert (few.changed, few.data["total"]) == (None, 3)
    assert [c["name"] for c in few.data["containers"]] == ["a", "b"]


def test_a_machine_without_containers_tells_none():
    assert do("container.list").data == {"containers": [], "total": 0}


def test_a_container_is_found_by_its_name_or_the_begin_of_its_id():
    told = do("container.create", image="nginx", name="web").data
    assert do("container.get", id="web").data == told
    assert do("container.get", id=told["container"]["id"][:12]).data == told


def test_starting_and_stopping_change_what_is_otherwise(machine):
    do("container.create", image="nginx", name="web")
    assert do("container.start", id="web").changed is False
    told = [do("container.stop", id="web", timeout=3) for _ in range(2)]
    assert [answer.changed for answer in told] == [True, False]
    assert told[0].data["container"]["exit_code"] == 143
    assert calls(machine, "stop") == [
        ["container", "stop", "-t", "3", "--", told[0].data["container"]["id"]]
    ]
    assert do("container.start", id="web").changed is True


def test_a_running_container_is_removed_by_force_alone(machine):
    do("container.create", image="nginx", name="web")
    assert "force" in refused("conflict", "container.delete", id="web", force=False)
    told = do("container.delete", id="web", force=True)
    assert (told.changed, told.data["name"]) == (True, "web")
    assert do("container.delete", id="web").changed is False
    assert "--force" in calls(machine, "rm")[0]


def test_what_is_not_there_is_not_found():
    for operation in ("get", "start", "stop"):
        assert "ghost" in refused("not_found", f"container.{operation}", id="ghost")
    refused("not_found", "container.exec", id="ghost", command=["true"])


def test_what_a_command_writes_is_seen_and_its_code_told(capfd):
    do("container.create", image="nginx", name="web")
    wanted = {"id": "web", "env": ["A=1"], "working_dir": "/tmp"}
    told = do("container.exec", **wanted, command=["ls", "-l"])
    assert (told.status, told.changed, told.exit_code) == ("completed", True, 0)
    seen = capfd.readouterr()
    assert (seen.out, seen.err) == ("out --env=A=1 --workdir=/tmp ls -l\n", "err\n")
    told = do("container.exec", **wanted, command=["exit", "7"])
    assert (told.status, told.exit_code, told.error_code) == ("failed", 7, "exit_code")
    assert told.data["duration_ms"] >= 0


def test_nothing_is_run_in_a_container_that_does_not_run():
    do("container.create", image="nginx", name="web", auto_start=False)
    refused("conflict", "container.exec", id="web", command=["true"])


@pytest.mark.parametrize("name", ["../x", "-rf", "a/b", "", "a b", "--all", "a\n"])
@pytest.mark.parametrize("operation", ["get", "start", "stop", "delete", "exec"])
def test_an_id_is_never_a_path_or_an_option(machine, operation, name):
    refused("invalid_value", f"container.{operation}", id=name, command=["true"])
    assert not (machine / "calls.jsonl").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"image": "-x"},
        {"image": "a/../b"},
        {"image": "a b"},
        {"name": "a/b"},
        {"hostname": "-a"},
        {"dns": ["example.org"]},
        {"ports": ["8000-8005:80"]},
        {"ports": ["80:0"]},
        {"ports": ["70000:80"]},
        {"ports": ["80/icmp"]},
        {"volumes": ["./a:/b"]},
        {"volumes": ["a:b"]},
        {"volumes": ["/a:ro"]},
        {"env": ["=x"]},
    ],
)
def test_wrong_values_are_refused_before_anything_is_done(machine, wrong):
    refused("invalid_value", "container.create", **{"image": "nginx", "name": "web", **wrong})
    assert not (machine / "calls.jsonl").exists()


def test_a_wrong_variable_is_named_but_not_repeated():
    message = refused("invalid_value", "container.create", image="nginx", env=["A=1", "s3cret"])
    assert "env[1]" in message
    assert "s3cret" not in message


# --- Images --------------------------------------------------------------------------------------


def test_a_pull_changes_something_only_if_there_is_a_newer_image(machine):
    first, second = do("image.pull", image="nginx"), do("image.pull", image="nginx")
    assert (first.changed, second.changed) == (True, False)
    assert second.data == {
        "image": "nginx",
        "id": "sha256:new",
        "digests": ["a@1", "b@2"],
        "size": 7,
    }
    assert do("image.pull", image="host:5000/team/app:v1").changed is True
    assert calls(machine, "pull")[-1] == ["image", "pull", "--quiet", "--", "host:5000/team/app:v1"]


def test_an_image_that_no_registry_has_is_not_found():
    assert "manifest unknown" in refused("not_found", "image.pull", image="nope:1")


def test_an_image_is_removed_once_and_not_while_it_is_used():
    do("container.create", image="nginx", name="web")
    assert "unable to remove" in refused("conflict", "image.delete", image="nginx")
    do("container.delete", id="web", force=True)
    assert [do("image.delete", image="nginx").changed for _ in range(2)] == [True, False]
    refused("invalid_value", "image.delete", image="--all")


# --- What a machine offers -----------------------------------------------------------------------


def test_a_machine_offers_containers_if_its_daemon_answers(machine, monkeypatch):
    assert set(docker.available()) == set(docker.HANDLERS)
    put(machine, daemon="down")
    assert list(docker.available()) == []
    put(machine, daemon="silent")
    monkeypatch.setattr(docker, "ANSWERING", 0.5)
    assert list(docker.available()) == []
    (machine / "docker").unlink()
    monkeypatch.setattr("agent.operations.base.PATH", os.fspath(machine))
    assert list(docker.available()) == []
    refused("operation_failed", "container.list")


def test_docker_is_told_where_its_daemon_is(machine, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "unix:///run/user/7/docker.sock")
    monkeypatch.setenv("JOBSITE_TOKEN", "s3cret")
    (machine / "docker").write_text('#!/bin/sh\nenv > "${0%/*}/env"\necho "[]"\n')
    do("image.delete", image="nginx")
    seen = (machine / "env").read_text()
    assert "DOCKER_HOST=unix:///run/user/7/docker.sock" in seen
    assert "s3cret" not in seen


def test_what_docker_says_strangely_is_an_error(machine):
    (machine / "docker").write_text("#!/bin/sh\necho 'not json'\n")
    assert "no JSON" in refused("operation_failed", "container.get", id="web")
    (machine / "docker").write_text("#!/bin/sh\necho 'permission denied: socket' >&2\nexit 1\n")
    refused("forbidden", "container.list")
