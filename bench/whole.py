"""The whole product as processes for a benchmark, its database at hand, and never left running."""

import contextlib
import logging
import shutil
import subprocess
import sys

import ground
import httpx
import psutil
import psycopg

from tests.product import Product
from tests.stack import clean_environment, make_server_folder
from tests.waiting import wait_until

logging.getLogger("httpx").setLevel(logging.WARNING)


def say(text):
    """Tell the person who waits what goes on."""
    print(f"  {text}", flush=True)


class Whole:
    """A running product: its processes, its rows and its REST."""

    def __init__(self, product, rows):
        self.product, self._rows = product, rows
        self.url, self.data = product.url, product.data
        token = product.manage("create_token", "--user", "admin", "--name", "bench").split()[-1]
        self.http = httpx.Client(
            base_url=f"{product.url}/api/v1",
            headers={"Authorization": f"Bearer {token}"},
            timeout=30,
        )

    def execute(self, statement, parameters=()):
        """Run one statement; give its rows, if it has any."""
        done = self._rows.execute(statement, parameters or None)
        return done.fetchall() if done.description else []

    def one(self, statement, parameters=()):
        """Give the only value of a statement."""
        return self.execute(statement, parameters)[0][0]

    def submit(self, spec):
        """Submit a job by REST and give its id."""
        answer = self.http.put("/jobs", json=spec)
        answer.raise_for_status()
        return answer.json()["job"]["id"]

    def processes(self, name):
        """Give the process of a name and those that it started."""
        child = self.product.child(name)
        return [child, *child.children(recursive=True)]


@contextlib.contextmanager
def whole(agents=0, **environment):
    """Run the product in a temporary folder of its own."""
    ground.leave_on_signal()
    folder = make_server_folder()
    product = Product(folder / "var", agents=agents, **environment)
    try:
        say(f"starting the product with {agents} agents…")
        product.start(deadline=120 + 6 * agents)
        with psycopg.connect(product.urls["DATABASE_URL"], autocommit=True) as rows:
            running = Whole(product, rows)
            try:
                yield running
            finally:
                running.http.close()
    finally:
        product.stop()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def bare_server(port):
    """Run `bench.bare` under the same uvicorn as the product, as a process of its own."""
    argv = [sys.executable, "-m", "uvicorn", "bench.bare:app", "--port", str(port)]
    argv += ["--no-access-log", "--log-level", "warning"]
    process = subprocess.Popen(argv, cwd=ground.PROJECT, env=clean_environment())
    try:
        wait_until(lambda: _answers(port), 20, "the bare server does not start")
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()


def _answers(port):
    try:
        return httpx.get(f"http://127.0.0.1:{port}/").status_code == 200
    except httpx.TransportError:
        return False
