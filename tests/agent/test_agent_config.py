"""The agent's settings: command line over file over defaults, and clear refusals."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from agent.config import ConfigError, arguments, load
from tests.agent.nodes import ROOT


def settings(*words):
    return load(arguments().parse_args(["run", *words]))


def test_the_command_line_is_enough():
    config = settings(
        "--server", "https://jobs.example/", "--data-dir", "/var/lib/agent", "--label", "tier=edge",
        "--label", "note=a=b", "--env", "SITE=", "--token", "t",
    )  # fmt: skip
    assert config.server == "https://jobs.example"
    assert config.session_url == "wss://jobs.example/agent/v1/session"
    assert config.enrol_url == "https://jobs.example/agent/v1/enroll"
    assert config.data_dir == Path("/var/lib/agent")
    assert config.name == socket.gethostname()
    assert config.labels == {"tier": "edge", "note": "a=b"}
    assert config.env == {"SITE": ""}
    assert (config.token, config.log_level) == ("t", "info")


def test_the_command_line_wins_over_the_file(tmp_path):
    file = tmp_path / "agent.toml"
    file.write_text(
        'server = "http://a"\ndata_dir = "/a"\nname = "file"\n[labels]\ntier = "edge"\nrack = "1"\n'
    )
    config = settings("--config", str(file), "--name", "line", "--label", "rack=2")
    assert (config.server, config.name, config.data_dir) == ("http://a", "line", Path("/a"))
    assert config.labels == {"tier": "edge", "rack": "2"}


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "--server"),
        (["--server", "ftp://a", "--data-dir", "/a"], "--server"),
        (["--server", "http://a"], "--data-dir"),
        (["--server", "http://a", "--data-dir", "/a", "--label", "x"], "--label 'x'"),
        (["--server", "http://a", "--data-dir", "/a", "--env", "1A=x"], "1A"),
        (["--config", "/no/such/file"], "/no/such/file"),
    ],
)
def test_what_cannot_be_used_is_named(words, complaint):
    with pytest.raises(ConfigError, match=complaint):
        settings(*words)


@pytest.mark.parametrize(
    "text", ["serve = 1", "server = ", "[labels]\na = 1\n", 'log_level = "loud"']
)
def test_a_file_with_unknown_or_odd_settings_is_refused(tmp_path, text):
    file = tmp_path / "agent.toml"
    file.write_text(text)
    with pytest.raises(ConfigError):
        settings("--config", str(file), "--server", "http://a", "--data-dir", "/a")


def test_wrong_settings_end_the_program_with_status_2():
    command = [sys.executable, "-m", "agent", "run", "--server", "nonsense"]
    answer = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False
    )
    assert answer.returncode == 2
    assert answer.stderr.startswith("jobsite-agent: --server")
