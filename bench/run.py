"""Runs every benchmark, or with a row's number the one that measures it; writes RESULTS.md."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROWS = {
    "1": "placement_bench.py",
    "2": "placement_bench.py",
    "5": "decision_bench.py",
    "7": "ingest_bench.py",
    "17": "decision_bench.py",
    "18": "live_bench.py",
    "19": "live_bench.py",
}


def main(row=""):
    if row and row not in ROWS:
        sys.exit(f"row {row} is not measured; these are: {', '.join(ROWS)}")
    scripts = [ROWS[row]] if row else sorted(path.name for path in HERE.glob("*_bench.py"))
    for script in scripts:
        print(f"--- {script}", flush=True)
        done = subprocess.run([sys.executable, str(HERE / script)], check=False)
        if done.returncode:
            sys.exit(f"{script} ended with {done.returncode}")


if __name__ == "__main__":
    main(*sys.argv[1:])
