"""`python -m bench.chaos`: one run, its report, and exit code 1 when something was found."""

import argparse
import asyncio
import importlib.util
import logging
import os
import sys
import tempfile
from pathlib import Path

from bench.chaos import namespace


def main():
    options = _arguments()
    own_network = namespace.enter()
    folder = Path(options.data or tempfile.mkdtemp(prefix="jobsite-chaos-")).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o711)
    _set_up(folder)
    from bench.chaos.run import Options, keep_or_remove, run

    report = asyncio.run(
        run(
            Options(
                data=folder,
                seconds=options.seconds,
                seed=options.seed,
                agents=options.agents,
                users=options.users,
                per_second=options.rate,
                bound=options.bound,
                faketime=options.faketime,
                own_network=own_network,
                only=tuple(options.only or ()),
            )
        )
    )
    print(report.text())
    keep_or_remove(report, folder)
    sys.exit(0 if report.is_clean else 1)


def _arguments():
    parser = argparse.ArgumentParser(prog="bench.chaos", description=__doc__)
    environment = os.environ.get
    parser.add_argument("--seconds", type=float, default=environment("CHAOS_SECONDS", "300"))
    parser.add_argument("--seed", type=int, default=environment("SEED", "1"))
    parser.add_argument("--agents", type=int, default=environment("AGENTS", "12"))
    parser.add_argument("--users", type=int, default=12, help="how many submit jobs at a time")
    parser.add_argument("--rate", type=float, default=0.7, help="faults a second")
    parser.add_argument("--bound", type=float, default=120, help="seconds to come to rest in")
    parser.add_argument("--only", action="append", help="kinds of faults that begin so")
    parser.add_argument("--data", help="an empty folder; without it a temporary one")
    parser.add_argument(
        "--faketime",
        default=environment("FAKETIME_LIB", _packaged_faketime()),
        help="libfaketime's .so; that of the package if it is there",
    )
    return parser.parse_args()


def _packaged_faketime():
    found = importlib.util.find_spec("libfaketime")
    if found is None or found.origin is None:
        return ""
    library = Path(found.origin).parent / "vendor/libfaketime/src/libfaketime.so.1"
    return str(library) if library.exists() else ""


def _set_up(folder):
    os.environ.update(DATA=str(folder / "var"), DJANGO_SETTINGS_MODULE="jobsite.settings")
    for name in ("DATABASE_URL", "REDIS_URL", "CELERY_BROKER_URL"):
        os.environ.pop(name, None)
    os.environ.setdefault("SECRET_KEY", "only for chaos")
    # Each agent reaches the webs by an address of its own.
    os.environ["ALLOWED_HOSTS"] = "*"
    import django

    logging.disable(logging.INFO)
    django.setup()


if __name__ == "__main__":
    main()
