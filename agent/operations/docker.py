"""Containers and images of a node, by the docker program (docs/semantics.md 2.7, domain docker).

Environment variables may hold secrets: they are given to docker, and never told.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Collection, Sequence
from typing import Any

from agent.operations import base
from agent.operations.base import Answer, Handler, OperationError, Params, program, run
from agent.operations.docker_wishes import (
    Container,
    checked_env,
    checked_image,
    differences,
    wish_of,
)

# The daemon must answer within this many seconds, or the node offers no containers.
ANSWERING = 5.0
STOPPED = ("created", "dead", "exited")
_ID_RE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}")
# What docker says, in small letters -> our code; the first that fits.
_CODES = (
    ("no such container", "not_found"),
    ("no such image", "not_found"),
    ("manifest unknown", "not_found"),
    ("repository does not exist", "not_found"),
    (": not found", "not_found"),
    ("conflict", "conflict"),
    ("permission denied", "forbidden"),
)
_PASSED_ON = ("DOCKER_CONFIG", "DOCKER_HOST", "HOME")


def _environment() -> dict[str, str]:
    """Return what leads docker to its daemon and to the registries' passwords."""
    return {name: os.environ[name] for name in _PASSED_ON if name in os.environ}


def _tool() -> str:
    path = program("docker")
    if path is None:
        raise OperationError("this machine has no docker")
    return path


def _docker(*arguments: str) -> str:
    """Run docker and return what it printed. Raises OperationError with its words."""
    done = run([_tool(), *arguments], check=False, env=_environment())
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip())[-2000:]
        code = next((code for text, code in _CODES if text in said.lower()), "operation_failed")
        raise OperationError(f"docker {' '.join(arguments[:2])}: {said}", code)
    return done.stdout


def _inspect(kind: str, *names: str) -> list[dict[str, Any]]:
    """Return what docker knows of containers or images; those that are gone are left out."""
    if not names:
        return []
    arguments = [kind, "inspect", "--", *names]
    done = run([_tool(), *arguments], check=False, env=_environment())
    try:
        found: list[dict[str, Any]] = json.loads(done.stdout or "[]")
    except ValueError as error:
        raise OperationError(f"docker {kind} inspect gave no JSON: {error}") from error
    said = done.stderr.strip()
    if done.returncode != 0 and "no such" not in said.lower():
        raise OperationError(f"docker {kind} inspect: {said[-2000:]}")
    return found


def _container(name: str) -> Container | None:
    found = _inspect("container", name)
    return Container(found[0]) if found else None


def _existing(params: Params) -> Container:
    name = _id(params)
    container = _container(name)
    if container is None:
        raise OperationError(f"there is no container {name} on this node", "not_found")
    return container


def _id(params: Params, key: str = "id") -> str:
    name = str(params[key])
    if _ID_RE.fullmatch(name) is None:
        message = f"{name!r} is no {key} of a container: letters, digits, '_', '.' and '-'"
        raise OperationError(message, "invalid_value")
    return name


# --- Containers ----------------------------------------------------------------------------------


def _list(params: Params) -> Answer:
    state, limit = params.get("state", "all"), int(params.get("limit", 20))
    filters = {"running": ("running",), "stopped": STOPPED}.get(str(state), ())
    lines = _docker(
        "container",
        "ls",
        "--all",
        "--no-trunc",
        "--format",
        "{{json .}}",
        *(f"--filter=status={status}" for status in filters),
    ).splitlines()
    rows = [json.loads(line) for line in lines if line.strip()]
    rows.sort(key=lambda row: (row["Names"], row["ID"]))
    known = map(Container, _inspect("container", *(row["ID"] for row in rows[:limit])))
    told = sorted((container.told() for container in known), key=lambda c: (c["name"], c["id"]))
    return Answer(data={"containers": told, "total": len(rows)})


def _get(params: Params) -> Answer:
    return Answer(data={"container": _existing(params).told()})


def _create(params: Params) -> Answer:
    """Create a container; one of this name must be as wished, or it is a conflict."""
    name = _id(params, "name") if params.get("name") else ""
    wish = wish_of(params)
    container = _container(name) if name else None
    if container is not None and (different := differences(wish, container)):
        message = f"the container {name} is there with another {', '.join(different)}; delete it"
        raise OperationError(f"{message} or choose another name", "conflict")
    is_new = container is None
    if container is None:
        named = [f"--name={name}"] if name else []
        made = _docker("container", "create", *named, *wish.arguments()).split()
        container = _container(made[-1] if made else name)
        if container is None:
            raise OperationError("docker made a container that is gone already", "conflict")
    is_started = bool(params.get("auto_start", True)) and _start_if_stopped(container)
    return Answer(changed=is_new or is_started, data={"container": _again(container)})


def _again(container: Container) -> dict[str, Any]:
    """Return what a container is now; one that removes itself may be gone."""
    return (_container(container.id) or container).told()


def _start_if_stopped(container: Container) -> bool:
    if container.is_running:
        return False
    _docker("container", "start", "--", container.id)
    return True


def _start(params: Params) -> Answer:
    container = _existing(params)
    changed = _start_if_stopped(container)
    return Answer(changed=changed, data={"container": _again(container)})


def _stop(params: Params) -> Answer:
    container = _existing(params)
    if container.is_running:
        patience = str(int(params.get("timeout", 10)))
        _docker("container", "stop", "-t", patience, "--", container.id)
    return Answer(changed=container.is_running, data={"container": _again(container)})


def _delete(params: Params) -> Answer:
    name = _id(params)
    container = _container(name)
    if container is None:
        return Answer(changed=False, data={"id": name})
    force = ["--force"] if params.get("force") else []
    if container.is_running and not force:
        message = f"the container {name} is running: stop it first, or give force"
        raise OperationError(message, "conflict")
    _docker("container", "rm", *force, "--", container.id)
    return Answer(changed=True, data={"id": container.id, "name": container.name})


def _exec(params: Params) -> Answer:
    """Run a command in a container; what it writes is seen while it runs."""
    container = _existing(params)
    if not container.is_running:
        raise OperationError(f"the container {container.name} is not running", "conflict")
    options = [f"--env={value}" for value in checked_env(params)]
    if params.get("working_dir"):
        options.append(f"--workdir={params['working_dir']}")
    argv = [_tool(), "container", "exec", *options, "--", container.id]
    return _stream([*argv, *map(str, params["command"])])


def _stream(argv: Sequence[str]) -> Answer:
    began = time.monotonic()
    environment = {"PATH": base.PATH, "LC_ALL": "C.UTF-8", **_environment()}
    try:
        done = subprocess.run(argv, env=environment, stdin=subprocess.DEVNULL, check=False)
    except OSError as error:
        raise OperationError(f"{argv[0]} cannot be run: {error}") from error
    code = done.returncode if done.returncode >= 0 else 128 - done.returncode
    return Answer(
        status="completed" if code == 0 else "failed",
        changed=True,
        exit_code=code,
        error_code="" if code == 0 else "exit_code",
        data={"duration_ms": round(1000 * (time.monotonic() - began))},
    )


# --- Images --------------------------------------------------------------------------------------


def _image(name: str) -> dict[str, Any] | None:
    found = _inspect("image", name)
    if not found:
        return None
    image = found[0]
    digests = sorted(image.get("RepoDigests") or ())
    return {"image": name, "id": image["Id"], "digests": digests, "size": image.get("Size", 0)}


def _pull(params: Params) -> Answer:
    name = checked_image(params)
    before = _image(name)
    _docker("image", "pull", "--quiet", "--", name)
    after = _image(name)
    if after is None:
        raise OperationError(f"the image {name} was pulled and is gone already", "conflict")
    changed = before is None or before["id"] != after["id"]
    return Answer(changed=changed, data=after)


def _delete_image(params: Params) -> Answer:
    name = checked_image(params)
    if (image := _image(name)) is None:
        return Answer(changed=False, data={"image": name})
    _docker("image", "rm", "--", name)
    return Answer(changed=True, data={"image": name, "id": image["id"]})


HANDLERS: dict[str, Handler] = {
    "docker.container.list": _list,
    "docker.container.get": _get,
    "docker.container.create": _create,
    "docker.container.delete": _delete,
    "docker.container.start": _start,
    "docker.container.stop": _stop,
    "docker.container.exec": _exec,
    "docker.image.pull": _pull,
    "docker.image.delete": _delete_image,
}


def available() -> Collection[str]:
    """Return what this machine can do: everything, if docker's daemon answers soon."""
    path = program("docker")
    if path is None:
        return []
    try:
        done = subprocess.run(
            [path, "version", "--format", "{{json .Server}}"],
            env={"PATH": base.PATH, **_environment()},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=ANSWERING,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return list(HANDLERS) if done.returncode == 0 else []
