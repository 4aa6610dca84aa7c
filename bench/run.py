"""Runs every benchmark, or with a row's number the one that measures it; writes RESULTS.md."""

import signal
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROWS = {
    "1": "placement_bench.py",
    "2": "placement_bench.py",
    "3": "agents_bench.py",
    "4": "agents_bench.py",
    "5": "decision_bench.py",
    "6": "judge_bench.py",
    "7": "ingest_bench.py",
    "8": "connections_bench.py",
    "9": "connections_bench.py",
    "10": "viewers_bench.py",
    "11": "lists_bench.py",
    "12": "visits_bench.py",
    "13": "agents_bench.py",
    "14": "recovery_bench.py",
    "15": "recovery_bench.py",
    "16": "pages_bench.py",
    "17": "decision_bench.py",
    "17a": "placement_bench.py",
    "17j": "judge_bench.py",
    "17p": "pages_bench.py",
    "18": "live_bench.py",
    "19": "live_bench.py",
}


def run(script):
    """Run one to its end; an interruption is passed on, and the script given time to clean up."""
    process = subprocess.Popen([sys.executable, str(HERE / script)])
    try:
        return process.wait()
    except BaseException:
        process.terminate()
        process.wait(90)
        raise


def main(row=""):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if row and row not in ROWS:
        sys.exit(f"row {row} is not measured; these are: {', '.join(ROWS)}")
    scripts = [ROWS[row]] if row else sorted(path.name for path in HERE.glob("*_bench.py"))
    for script in scripts:
        print(f"--- {script}", flush=True)
        code = run(script)
        if code:
            sys.exit(f"{script} ended with {code}")


if __name__ == "__main__":
    main(*sys.argv[1:])
