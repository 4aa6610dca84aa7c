"""Runs a Supervisor as `up` does, over the Python snippets given; says when all are ready."""

import asyncio
import sys

from jobsite.children import ChildFailedError, Printer, Proc
from jobsite.supervisor import Supervisor


async def main(snippets):
    supervisor = Supervisor(Printer(sys.stdout), adopt_orphans=True)
    supervisor.catch_signals()
    try:
        for number, snippet in enumerate(snippets):
            argv = (sys.executable, "-u", "-c", snippet)
            await supervisor.start(Proc(name=f"child-{number}", argv=argv, grace=1, ready=any))
        supervisor.printer.text("all ready")
        await supervisor.run()
    except ChildFailedError:
        return 1
    finally:
        await supervisor.stop()
    return 0


sys.exit(asyncio.run(main(sys.argv[1:])))
