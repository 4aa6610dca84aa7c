"""The agent's settings: from the command line, over a TOML file, over defaults."""

from __future__ import annotations

import argparse
import re
import socket
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

VERSION = "0.1.0"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LEVELS = ("debug", "info", "warning", "error")


class ConfigError(ValueError):
    """Settings that cannot be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that a person may set."""

    server: str
    data_dir: Path
    name: str
    token: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    log_level: str = "info"

    @property
    def session_url(self) -> str:
        """The address of the session's websocket."""
        return "ws" + self.server.removeprefix("http") + "/agent/v1/session"

    @property
    def enrol_url(self) -> str:
        """The address where a node enrols."""
        return self.server + "/agent/v1/enroll"


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="jobsite-agent", description="Runs Jobsite's jobs on this machine."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("version", help="print the version")
    for name, text in (
        ("run", "enrol if need be, then work until stopped"),
        ("enrol", "enrol, wait until accepted, and end"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("--server", metavar="URL", help="the control plane, http(s)://…")
        command.add_argument("--data-dir", type=Path, metavar="DIR", help="keys and journal")
        command.add_argument("--name", help="the node's name (default: the host name)")
        command.add_argument("--token", help="enrolment token, for the first start only")
        command.add_argument("--label", action="append", default=[], metavar="K=V")
        command.add_argument("--env", action="append", default=[], metavar="K=V")
        command.add_argument("--config", type=Path, metavar="FILE.toml")
        command.add_argument("--log-level", choices=_LEVELS)
    return parser


def load(options: argparse.Namespace) -> Config:
    """Return the settings of a parsed command line. Raises ConfigError."""
    file = _read(options.config) if options.config else {}
    values: dict[str, Any] = {}
    for name in ("server", "data_dir", "name", "token", "log_level"):
        value = getattr(options, name)
        value = file.pop(name, None) if value is None else value
        if value is not None:
            values[name] = value
    values["labels"] = {**file.pop("labels", {}), **_pairs(options.label, "label")}
    values["env"] = {**file.pop("env", {}), **_pairs(options.env, "env")}
    for name in ("server", "data_dir", "name", "token", "log_level"):
        file.pop(name, None)
    if file:
        raise ConfigError(f"{options.config}: unknown setting {min(file)}")
    return _checked(values)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from error


def _pairs(texts: Sequence[str], what: str) -> dict[str, str]:
    pairs = {}
    for text in texts:
        key, found, value = text.partition("=")
        if not found or not key:
            raise ConfigError(f"--{what} {text!r} is not of the form KEY=VALUE")
        pairs[key] = value
    return pairs


def _checked(values: dict[str, Any]) -> Config:
    server = str(values.get("server") or "").rstrip("/")
    if not re.fullmatch(r"https?://[^\s/]+(/\S*)?", server):
        raise ConfigError("--server must be a http:// or https:// address")
    if not values.get("data_dir"):
        raise ConfigError("--data-dir is needed")
    if values.get("log_level", "info") not in _LEVELS:
        raise ConfigError(f"log_level must be one of {', '.join(_LEVELS)}")
    for kind in ("labels", "env"):
        if not all(isinstance(text, str) for text in values[kind].values()):
            raise ConfigError(f"{kind} must map names to texts")
    if odd := [key for key in values["env"] if not _VARIABLE.fullmatch(key)]:
        raise ConfigError(f"{odd[0]!r} is not a name for a variable")
    data_dir = Path(values.pop("data_dir")).absolute()
    name = values.pop("name", None) or socket.gethostname()
    return Config(**{**values, "server": server, "data_dir": data_dir, "name": name})
