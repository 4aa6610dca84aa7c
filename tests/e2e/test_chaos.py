"""Under faults of every kind that this computer allows, nothing is lost and nothing runs twice.

The short profile of `make chaos`: the schedule is the seed's, so a failure can be run again.
"""

import re
import subprocess
import sys

import pytest

from tests.stack import PROJECT, clean_environment

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(420)]

SEED = 7
PROFILE = ["--seconds", "9", "--rate", "2.8", "--agents", "4", "--users", "8", "--bound", "60"]


def test_nothing_is_lost_doubled_or_violated_under_faults():
    run = subprocess.run(
        [sys.executable, "-m", "bench.chaos", "--seed", str(SEED), *PROFILE],
        cwd=PROJECT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    said = run.stdout + run.stderr
    assert run.returncode == 0, said
    faults, kinds, executions = map(
        int, re.search(r"(\d+) faults of (\d+) kinds, (\d+) executions", said).groups()
    )
    assert ": 0 lost, 0 doubled, 0 violations" in said
    # Less would mean that the run proved nothing.
    assert faults >= 15, said
    assert kinds >= 10, said
    assert executions >= 10, said
