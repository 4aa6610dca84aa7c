"""Looks after the databases that `up` runs: status, psql, dump, restore, migrate."""

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connections

from jobsite.binaries import find_binaries
from jobsite.embedded import Stack
from jobsite.instance import AlreadyRunningError, EmbeddedError, read_instance
from jobsite.servers import without_password

MIGRATION_LOCK = 0x6A6F6273  # "jobs": any number will do while all processes use the same

RESTORE_OPTIONS = ("--clean", "--if-exists", "--no-owner", "--single-transaction")


class Command(BaseCommand):
    """`manage.py stack VERB`; PostgreSQL's own programs come from the same wheel as the server."""

    help = __doc__
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Read the verb and its file."""
        verbs = parser.add_subparsers(dest="verb", required=True)
        verbs.add_parser("status", help="tell what runs")
        verbs.add_parser("psql", help="talk SQL to the database")
        verbs.add_parser("migrate", help="migrate, one process at a time")
        dump = verbs.add_parser("dump", help="write a back-up")
        restore = verbs.add_parser("restore", help="put a back-up in the database's place")
        for verb in (dump, restore):
            verb.add_argument("file", type=Path)

    def handle(self, *, verb: str, file: Path | None = None, **_: object) -> None:
        """Carry the verb out; errors of the embedded servers are told without a trace."""
        try:
            if verb == "status":
                self._status()
            elif verb == "migrate":
                migrate_alone()
            else:
                self._client(verb, file)
        except EmbeddedError as error:
            raise CommandError(str(error)) from error

    def _status(self) -> None:
        info = read_instance(Path(settings.DATA))
        if not info:
            raise CommandError(f"nothing runs on {settings.DATA}")
        self.stdout.write(f"runs as process {info['pid']}: {info.get('url', 'databases only')}")
        for name, url in info.get("urls", {}).items():
            self.stdout.write(f"  {name}={without_password(url)}")

    def _client(self, verb: str, file: Path | None) -> None:
        with _running_database() as url:
            arguments = {
                "psql": ["psql", url],
                "dump": ["pg_dump", "--format=custom", f"--file={file}", url],
                "restore": ["pg_restore", *RESTORE_OPTIONS, f"--dbname={url}", str(file)],
            }[verb]
            program = find_binaries().postgres / arguments[0]
            done = subprocess.run([program, *arguments[1:]], check=False)  # noqa: S603 -- ours
        if done.returncode:
            raise CommandError(f"{arguments[0]} failed", returncode=done.returncode)
        if verb != "psql":
            self.stdout.write(f"{verb}: {file}")


@contextlib.contextmanager
def _running_database() -> Iterator[str]:
    """Give the URL of the database: as named, as running, or started for the time of the call."""
    if url := os.environ.get("DATABASE_URL"):
        yield url
        return
    stack = Stack(Path(settings.BASE_DIR), Path(settings.DATA), valkey=False)
    try:
        stack.start()
    except AlreadyRunningError as running:
        yield str(running.info.get("urls", {}).get("DATABASE_URL") or settings.DATABASE_URL)
        return
    try:
        yield stack.urls["DATABASE_URL"]
    finally:
        stack.stop()


def migrate_alone(deadline: float = 300.0) -> None:
    """Migrate while holding an advisory lock, on a connection of its own.

    It asks for the lock again and again, because a waiting statement would meet its timeout.
    """
    holder = connections.create_connection("default")
    end, pulse = time.monotonic() + deadline, threading.Event()
    try:
        with holder.cursor() as cursor:
            while True:
                cursor.execute("select pg_try_advisory_lock(%s)", [MIGRATION_LOCK])
                if cursor.fetchone() == (True,):
                    break
                if time.monotonic() > end:
                    raise CommandError("another process has been migrating for too long")
                pulse.wait(0.5)
            call_command("migrate", interactive=False, verbosity=1)
            cursor.execute("select pg_advisory_unlock(%s)", [MIGRATION_LOCK])
    finally:
        holder.close()
