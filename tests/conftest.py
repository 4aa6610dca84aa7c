"""Sets the tests' environment up before Django reads it; servers start when a test needs them."""

import os
import shutil

import pytest
from hypothesis import HealthCheck, settings

from tests.stack import TestStack, make_server_folder

SERVERS = TestStack()

pytest_plugins = ["tests.cast"]

# The page tests drive a browser from the main thread, in which an event loop then runs.
os.environ.setdefault("DJANGO_ALLOW_ASYNC_UNSAFE", "true")

settings.register_profile("dev", max_examples=50, deadline=None)
settings.register_profile(
    "ci", max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


def pytest_addoption(parser, pluginmanager):
    """Know the option's name also under `-p no:django`, which pure tests may be run with."""
    if not pluginmanager.hasplugin("django"):
        parser.addini("DJANGO_SETTINGS_MODULE", "unused without pytest-django")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    """Load the settings here: were they named in pyproject.toml, they would be read too early."""
    if config.pluginmanager.hasplugin("django"):
        from django.conf import settings as django_settings

        assert django_settings.DATABASES
    # An xdist worker that inherited the name would load the settings before its own conftest,
    # with the addresses of the controller's servers, which never run.
    os.environ.pop("DJANGO_SETTINGS_MODULE", None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Hand tests to workers by `Together`; the hook exists where xdist does."""
    from tests.together import Together

    return Together(config, log)


def pytest_unconfigure():
    """End the servers, whatever ended the tests."""
    SERVERS.stop()


@pytest.fixture(scope="session")
def stack():
    """PostgreSQL and Valkey run from here on (a test that uses the database gets them so too)."""
    SERVERS.start()
    return SERVERS


@pytest.fixture
def server_folder():
    """A temporary folder for servers, which may run as another user than the tests."""
    folder = make_server_folder()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix, stack):
    """Start the servers before the test database is made."""
