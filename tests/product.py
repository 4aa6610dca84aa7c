"""The whole product as processes: `manage.py up` in a folder of its own, for end-to-end tests."""

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import psutil

from jobsite.instance import read_instance
from tests.stack import PROJECT, clean_environment, make_server_folder
from tests.waiting import wait_until


def free_port():
    """Give a port that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _arguments(process):
    try:
        return process.cmdline()
    except psutil.Error:  # it ends at this moment
        return []


class Product:
    """One run of `up`; use it as a context manager, so that it always ends.

    Without `data` it has a temporary folder, which goes when the block ends without an error.
    """

    def __init__(self, data=None, *, agents=0, port=None, **environment):
        self._own_folder = None if data else make_server_folder()
        self.data = Path(data or self._own_folder / "var")
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.agents = agents
        self.data.mkdir(parents=True, exist_ok=True)
        self.environment = clean_environment(
            PORT=self.port, AGENTS=agents, DATA=self.data, **environment
        )
        self.log = self.data / "up.log"
        self.process = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, error, *_):
        self.stop()
        if self._own_folder and error is None:
            shutil.rmtree(self._own_folder)

    def start(self, deadline=180.0):
        """Start it and wait until it says that it runs."""
        with self.log.open("ab") as log:
            begin = log.tell()
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "up"],
                cwd=PROJECT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

        def settled():
            self.said = self.log.read_text(errors="replace")[begin:]
            return "Ctrl-C stops everything" in self.said or self.process.poll() is not None

        wait_until(settled, deadline, "`up` did not start")
        if self.process.poll() is not None:
            raise AssertionError(f"`up` ended with {self.process.returncode}:\n{self.said}")

    def stop(self, signum=signal.SIGTERM, deadline=60.0):
        """End it, and give its exit code."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signum)
        return self.process.wait(deadline) if self.process is not None else None

    @property
    def sign_in_url(self):
        """The admin's one-time link, as `up` prints it."""
        return re.search(r"Sign in as admin, once:\s+(\S+)", self.said)[1]

    @property
    def urls(self):
        """DATABASE_URL and REDIS_URL of the running instance."""
        return read_instance(self.data)["urls"]

    def child(self, name):
        """Give the process of that name: web, worker, beat, postgres, valkey, edge-1…"""
        marks = {
            "web": ["uvicorn"],
            "worker": ["celery", "worker"],
            "beat": ["celery", "beat"],
            "postgres": ["-D", str(self.data / "pg")],
            "valkey": ["--unixsocket"],
        }.get(name, ["--name", name])
        found = [
            child
            for child in psutil.Process(self.process.pid).children()
            if set(marks) <= set(_arguments(child))
        ]
        assert len(found) <= 1, found
        return found[0] if found else None

    def manage(self, *argv):
        """Run another management command against this instance and give what it says."""
        done = subprocess.run(
            [sys.executable, "manage.py", *argv],
            cwd=PROJECT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def get(self, path):
        """GET a path: status and JSON body; (0, {}) when nobody answers."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=10) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)
        except OSError:
            return 0, {}
