"""`python -m bench.soak`: an hour's work in minutes; exit code 1 when anything grows."""

import argparse
import asyncio
import logging
import os
import sys

from bench.soak.run import Options, soak


def main():
    """Run, print the report, and end with 1 unless everything is flat."""
    logging.basicConfig(level=logging.WARNING)
    report = asyncio.run(soak(_options()))
    print(report.text())
    sys.exit(0 if report.is_flat else 1)


def _options():
    parser = argparse.ArgumentParser(prog="bench.soak", description=__doc__)
    environment = os.environ.get
    parser.add_argument("--seconds", type=float, default=environment("SOAK_SECONDS", "540"))
    parser.add_argument("--agents", type=int, default=environment("AGENTS", "3"))
    parser.add_argument("--port", type=int, default=environment("PORT"))
    parser.add_argument("--data", help="an empty folder; without it a temporary one")
    options = parser.parse_args()
    return Options(
        data=options.data, seconds=options.seconds, agents=options.agents, port=options.port
    )


if __name__ == "__main__":
    main()
