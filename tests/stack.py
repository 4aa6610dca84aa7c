"""The tests' own PostgreSQL and Valkey: addresses known at once, started when first needed."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from jobsite.embedded import Stack

PROJECT = Path(__file__).resolve().parent.parent
OWN = "JOBSITE_TEST_STACK"
URLS = ("DATABASE_URL", "REDIS_URL", "CELERY_BROKER_URL")
# What a test process sets for itself, and a product started by a test must not inherit.
PLAIN_STORAGE = "django.contrib.staticfiles.storage.StaticFilesStorage"
SET_HERE = (*URLS, OWN, "DATA", "SECRET_KEY", "STATICFILES_STORAGE", "DJANGO_SETTINGS_MODULE")


def make_server_folder():
    """Make a folder that servers of another user can reach when the tests run as root.

    pytest's own `tmp_path` is no place for that: every start of pytest closes it to others.
    """
    folder = Path(tempfile.mkdtemp(prefix="jobsite-test-")).resolve()
    folder.chmod(0o711)
    return folder


class TestStack:
    """One process's servers, in a folder of its own; servers named by URL are used as they are."""

    __test__ = False

    def __init__(self):
        inherited = OWN in os.environ  # from the xdist controller, whose servers never run
        given = {url for url in URLS if url in os.environ} if not inherited else set()
        self.data = make_server_folder()
        (self.data / "static").mkdir()
        self._started = False
        self._stack = Stack(
            PROJECT,
            self.data,
            postgres="DATABASE_URL" not in given,
            valkey="REDIS_URL" not in given,
            without_durability=True,
        )
        os.environ.update(self._stack.urls)
        os.environ[OWN] = str(self.data)
        os.environ["DATA"] = str(self.data)
        os.environ.setdefault("SECRET_KEY", "only for tests")
        # The manifest of `collectstatic` is a matter of a deployed product.
        os.environ["STATICFILES_STORAGE"] = PLAIN_STORAGE
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "jobsite.settings")
        atexit.register(self.stop)

    def start(self):
        """Start the servers, once."""
        if not self._started:
            self._stack.start()
            self._started = True

    def stop(self):
        """End the servers and remove their folder."""
        self._stack.stop()
        shutil.rmtree(self.data, ignore_errors=True)


def clean_environment(**more):
    """Give the environment for a product that a test starts: none of this process's servers."""
    kept = {
        name: text
        for name, text in os.environ.items()
        if name not in SET_HERE and not name.startswith("COVERAGE_")
    }
    return kept | {name: str(value) for name, value in more.items()}
