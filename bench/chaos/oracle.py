"""The witnesses that are not the product's: files of the scripts, and the agents' journals."""

import shutil
import tempfile
from pathlib import Path

from agent.journal import Journal
from bench.chaos.checks import Evidence


def gather(folder, agents, accepted):
    """Read what the scripts wrote and what the journals hold; the journals are read as copies."""
    evidence = Evidence(accepted=sorted(accepted))
    for file in sorted(Path(folder).iterdir()):
        for line in file.read_text().splitlines():
            execution_id, word = line.split()
            evidence.disk.append((file.name, execution_id, word))
    for agent in sorted(Path(agents).iterdir()):
        if (agent / "journal").exists():
            _read_journal(agent, evidence)
    return evidence


def _read_journal(agent, evidence):
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(agent / "journal", folder)
        journal = Journal(Path(folder), "a boot of the harness")
        evidence.journal += [
            (agent.name, entry.execution_id, entry.phase, entry.attempt)
            for entry in journal.entries.values()
        ]
        evidence.unsent.append((agent.name, len(journal.pending(0))))
        journal.close()
