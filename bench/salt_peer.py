"""Row 3's peer: the same work by Salt, in an environment of its own (`python bench/salt_peer.py`)."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

FOLDER = Path(__file__).resolve().parents[1] / ".venv" / "salt"
PUBLISH, RETURN = 14505, 14506
PATIENCE = 300.0
# Run by Salt's own interpreter, so that starting its command line is not counted.
DRIVER = """
import json, sys, time
import salt.client
client = salt.client.LocalClient(c_path=sys.argv[1])
for _ in range(int(sys.argv[2])):
    begin = time.perf_counter()
    answers = {}
    for part in client.cmd_batch("*", "cmd.run", ["hostname"], batch="10%"):
        answers.update(part)
    print(json.dumps([time.perf_counter() - begin, len(answers)]), flush=True)
"""


def is_installed():
    """Say whether Salt is there."""
    return (FOLDER / "bin" / "salt-master").exists()


def install():
    """Install Salt into its own environment."""
    subprocess.run([sys.executable, "-m", "venv", str(FOLDER)], check=True)
    subprocess.run([FOLDER / "bin" / "pip", "install", "-q", "salt"], check=True, timeout=900)


@contextlib.contextmanager
def salt(minions):
    """Run a master and its minions on this machine; give folder and processes."""
    folder = Path(tempfile.mkdtemp(prefix="jobsite-salt-"))
    processes = []

    def start(command, conf, text):
        conf.mkdir(parents=True)
        (conf / command.removeprefix("salt-")).write_text(text)
        argv = [FOLDER / "bin" / command, "-c", str(conf), "-l", "quiet"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        processes.append(subprocess.Popen(argv, start_new_session=True, **quiet))

    try:
        shared = f"root_dir: {folder}/{{}}\nlog_level: quiet\n"
        master = f"interface: 127.0.0.1\nauto_accept: true\npublish_port: {PUBLISH}\n"
        master += f"ret_port: {RETURN}\n"
        start("salt-master", folder / "conf", shared.format("master") + master)
        for number in range(minions):
            own = f"id: minion-{number}\nmaster: 127.0.0.1\nmaster_port: {RETURN}\n"
            conf = folder / f"minion-{number}" / "conf"
            start("salt-minion", conf, shared.format(f"minion-{number}") + own)
        _await_keys(folder, minions)
        yield folder, processes
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        for process in processes:
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _await_keys(folder, minions):
    accepted = folder / "master" / "etc" / "salt" / "pki" / "master" / "minions"
    end, pulse = time.monotonic() + PATIENCE, threading.Event()
    while time.monotonic() < end:
        if accepted.exists() and len(list(accepted.iterdir())) >= minions:
            pulse.wait(10)  # the last ones subscribe
            return
        pulse.wait(0.5)
    raise TimeoutError("the minions do not come")


def measure_salt(minions, rounds):
    """Give seconds of `hostname` in 10% batches, and own memory (bytes) of each minion."""
    with salt(minions) as (folder, processes):
        argv = [
            FOLDER / "bin" / "python",
            "-c",
            DRIVER,
            str(folder / "conf" / "master"),
            str(rounds + 1),
        ]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE, check=True)
        found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
        if any(count != minions for _, count in found):
            raise AssertionError(f"not every minion answered: {found}")
        return [seconds for seconds, _ in found[1:]], [_memory(it.pid) for it in processes[1:]]


def _memory(pid):
    """Give what a minion and the processes it keeps use."""
    process = psutil.Process(pid)
    both = [process, *process.children(recursive=True)]
    return sum(it.memory_full_info().uss for it in both)


if __name__ == "__main__":
    if not is_installed():
        install()
    print(measure_salt(int(sys.argv[1]) if sys.argv[1:] else 5, 3))
