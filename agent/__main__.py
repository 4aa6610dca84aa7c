"""The agent's command line: `run`, `enrol`, `version`."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from agent import facts, processes
from agent.config import VERSION, Config, ConfigError, arguments, load
from agent.enrolment import EnrolmentError, identify
from agent.journal import Journal
from agent.session import Session
from agent.supervisor import Supervisor
from agent.verify import Verifier

EXIT_USAGE = 2
EXIT_BUSY = 3
log = logging.getLogger("jobsite.agent")


def main(argv: list[str] | None = None) -> int:
    """Do what the command line says; return the exit status (2: settings or token are wrong)."""
    options = arguments().parse_args(argv)
    if options.command == "version":
        print(VERSION)
        return 0
    try:
        config = load(options)
    except ConfigError as error:
        return _complain(str(error), EXIT_USAGE)
    try:
        logging.basicConfig(
            level=config.log_level.upper(),
            format="%(asctime)s %(levelname)s %(name)s: %(message)s",
            stream=sys.stderr,
        )
        logging.getLogger("websockets").setLevel("WARNING")
        with _held(config.data_dir):
            return asyncio.run(_run(config, enrol_only=options.command == "enrol"))
    except EnrolmentError as error:
        return _complain(str(error), EXIT_USAGE)
    except BlockingIOError:
        return _complain(f"another agent uses {config.data_dir}", EXIT_BUSY)


def _complain(text: str, status: int) -> int:
    print(f"jobsite-agent: {text}", file=sys.stderr)
    return status


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold the data folder for this process alone."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(lock)


async def _run(config: Config, *, enrol_only: bool) -> int:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    work = asyncio.create_task(_work(config, enrol_only=enrol_only))
    stop = asyncio.create_task(ended.wait())
    await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    work.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await work
    return 0


async def _work(config: Config, *, enrol_only: bool) -> None:
    identity = await identify(config)
    if enrol_only:
        print(identity.node_id)
        return
    journal = Journal(config.data_dir, processes.boot_id())
    supervisor = Supervisor(
        journal,
        Verifier(identity.control_key, identity.node_id),
        config.data_dir / "executions",
        name=config.name,
        env=config.env,
    )
    supervisor.recover()
    session: asyncio.Task[None] | None = None
    try:
        capabilities = await asyncio.to_thread(facts.capabilities)
        talk = Session(config, identity, journal, supervisor, capabilities)
        session = asyncio.create_task(talk.run())
        await asyncio.shield(session)
    finally:
        # The session goes on meanwhile, so that what ends now is reported before the agent ends.
        await supervisor.close()
        if session is not None:
            session.cancel()
        journal.close()


if __name__ == "__main__":
    sys.exit(main())
