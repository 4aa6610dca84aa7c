"""What a container is asked to be, what one is, and where the two differ."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from agent.operations.base import OperationError, Params

_IMAGE_RE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/@-]{0,511}")
_PORT_RE = re.compile(
    r"(?:(?:(?P<ip>[0-9.]+|\[[0-9A-Fa-f:.]+\]):)?(?P<host>[0-9]*):)?"
    r"(?P<inner>[0-9]+)(?:/(?P<protocol>tcp|udp|sctp))?"
)
_VOLUME_RE = re.compile(
    r"(?:/[^:\x00-\x1f]*|[A-Za-z0-9][A-Za-z0-9_.-]*):/[^:\x00-\x1f]*(?::[A-Za-z,]+)?"
    r"|/[^:\x00-\x1f]*"
)
_ENV_RE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*=.*", re.DOTALL)
_HOST_RE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?")
_ADDRESS_RE = re.compile(r"[0-9A-Fa-f:.]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a container is to be; `ports` as PortBindings tells them (`[[ip:]host:]inner/protocol`)."""

    image: str
    hostname: str
    dns: tuple[str, ...]
    command: tuple[str, ...]
    env: tuple[str, ...]
    ports: tuple[str, ...]
    volumes: tuple[str, ...]

    def arguments(self) -> list[str]:
        """Return what `docker container create` is told; a value never stands as an option."""
        hostname = [f"--hostname={self.hostname}"] if self.hostname else []
        return [
            *hostname,
            *(f"--dns={value}" for value in self.dns),
            *(f"--env={value}" for value in self.env),
            *(f"--publish={value}" for value in self.ports),
            *(f"--volume={value}" for value in self.volumes),
            "--",
            self.image,
            *self.command,
        ]


class Container:
    """A container as `docker container inspect` tells it."""

    def __init__(self, about: Mapping[str, Any]) -> None:
        self._about = about
        self.id = str(about["Id"])
        self.name = str(about["Name"]).lstrip("/")
        self.is_running = bool(about["State"].get("Running"))

    @property
    def config(self) -> Mapping[str, Any]:
        """What it was made of."""
        return self._about.get("Config") or {}

    @property
    def host_config(self) -> Mapping[str, Any]:
        """How it is tied to the node."""
        return self._about.get("HostConfig") or {}

    def ports(self) -> list[str]:
        """Return the published ports, each `[[ip:]host:]inner/protocol`, sorted."""
        return sorted(
            _port(binding.get("HostIp") or "", binding.get("HostPort") or "", inner)
            for inner, bindings in (self.host_config.get("PortBindings") or {}).items()
            for binding in bindings or ()
        )

    def volumes(self) -> list[str]:
        """Return what is mounted from the node or from a named volume, sorted."""
        return sorted(self.host_config.get("Binds") or ())

    def told(self) -> dict[str, Any]:
        """Return what an answer says of it."""
        state = self._about["State"]
        return {
            "id": self.id,
            "name": self.name,
            "image": self.config.get("Image", ""),
            "image_id": self._about.get("Image", ""),
            "state": state.get("Status", ""),
            "running": self.is_running,
            "exit_code": None if self.is_running else state.get("ExitCode"),
            "created": _time(self._about.get("Created")),
            "started_at": _time(state.get("StartedAt")),
            "finished_at": _time(state.get("FinishedAt")),
            "hostname": self.config.get("Hostname", ""),
            "command": list(self.config.get("Cmd") or ()),
            "dns": list(self.host_config.get("Dns") or ()),
            "ports": self.ports(),
            "volumes": self.volumes(),
        }


def _port(ip: str, host: str, inner: str) -> str:
    if ip:
        address = f"[{ip}]" if ":" in ip else ip
        return f"{address}:{host}:{inner}"
    return f"{host}:{inner}" if host else inner


def _time(text: object) -> str | None:
    """Return a time; docker tells what never was as the year 1."""
    return None if not text or str(text).startswith("0001-") else str(text)


def checked_image(params: Params) -> str:
    """Return the image that the params name. Raises OperationError (`invalid_value`)."""
    name = str(params["image"])
    if _IMAGE_RE.fullmatch(name) is None or ".." in name:
        raise OperationError(f"{name!r} is no name of an image", "invalid_value")
    return name


def wish_of(params: Params) -> Wish:
    """Return what the params ask for. Raises OperationError (`invalid_value`)."""
    hostname = str(params.get("hostname") or "")
    if hostname and _HOST_RE.fullmatch(hostname) is None:
        raise OperationError(f"{hostname!r} is no host name", "invalid_value")
    return Wish(
        image=checked_image(params),
        hostname=hostname,
        dns=tuple(_fitting(params, "dns", _ADDRESS_RE, "an address")),
        command=tuple(map(str, params.get("command") or ())),
        env=tuple(checked_env(params)),
        ports=tuple(_ports(params)),
        volumes=tuple(_fitting(params, "volumes", _VOLUME_RE, "[SOURCE:]/TARGET[:OPTIONS]")),
    )


def _fitting(params: Params, name: str, pattern: re.Pattern[str], form: str) -> Iterator[str]:
    for value in map(str, params.get(name) or ()):
        if pattern.fullmatch(value) is None:
            raise OperationError(f"{name}: {value!r} is not {form}", "invalid_value")
        yield value


def checked_env(params: Params) -> list[str]:
    """Return the variables that the params give. Raises OperationError (`invalid_value`).

    A bad one is not repeated, since it may be a secret.
    """
    wanted = list(map(str, params.get("env") or ()))
    for place, value in enumerate(wanted):
        if _ENV_RE.fullmatch(value) is None:
            raise OperationError(f"env[{place}] is not NAME=VALUE", "invalid_value")
    return wanted


def _ports(params: Params) -> Iterator[str]:
    for value in _fitting(params, "ports", _PORT_RE, "[[IP:]HOST:]PORT[/PROTOCOL], one port"):
        match = _PORT_RE.fullmatch(value)
        assert match is not None
        numbers = [int(number) for number in (match["host"], match["inner"]) if number]
        if not all(0 < number < 65536 for number in numbers):
            raise OperationError(f"ports: {value!r} is not within 1 to 65535", "invalid_value")
        ip = (match["ip"] or "").strip("[]")
        yield _port(ip, match["host"] or "", f"{match['inner']}/{match['protocol'] or 'tcp'}")


def _tagged(image: str) -> str:
    """Return an image with its tag, which docker leaves as it was given."""
    return image if "@" in image or ":" in image.rpartition("/")[2] else f"{image}:latest"


def differences(wish: Wish, container: Container) -> list[str]:
    """Name what a container has otherwise than wished.

    What the image brings itself cannot be told apart: its command where none is wished, and its
    variables and volumes beside those that are wished.
    """
    config, tied = container.config, container.host_config
    bound = sorted(volume for volume in wish.volumes if ":" in volume)
    own = {volume for volume in wish.volumes if ":" not in volume}
    same = {
        "image": _tagged(str(config.get("Image", ""))) == _tagged(wish.image),
        "hostname": wish.hostname in ("", config.get("Hostname")),
        "dns": list(wish.dns) == list(tied.get("Dns") or ()),
        "command": not wish.command or list(wish.command) == list(config.get("Cmd") or ()),
        "env": set(wish.env) <= set(config.get("Env") or ()),
        "ports": sorted(wish.ports) == container.ports(),
        "volumes": bound == container.volumes() and own <= set(config.get("Volumes") or ()),
    }
    return [name for name, is_same in same.items() if not is_same]
