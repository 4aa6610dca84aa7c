"""What this machine is and how it fares, read from /proc: facts, resources, conditions."""

from __future__ import annotations

import contextlib
import importlib
import os
import platform
import socket
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from agent.runners import operations, script

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
# File systems that hold something of their own, by their type in /proc/mounts.
_REAL = frozenset({"btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "vfat", "xfs", "zfs"})
MEMORY_PRESSURE = 90.0
DISK_PRESSURE = 90.0
LOAD_PER_CPU = 2.0


def architecture() -> str:
    """Return the processor architecture in the control plane's words (amd64, arm64, …)."""
    machine = platform.machine()
    return _MACHINES.get(machine, machine)


def memory() -> dict[str, int]:
    """Return the machine's memory in bytes; `used` is what no new process could have."""
    values = {}
    with contextlib.suppress(OSError), Path("/proc/meminfo").open() as file:
        for line in file:
            name, _, rest = line.partition(":")
            values[name] = int(rest.split()[0]) * 1024
    total, free = values.get("MemTotal", 0), values.get("MemAvailable", 0)
    return {"total": total, "free": free, "used": total - free}


def load() -> dict[str, float]:
    """Return the load averages."""
    one, five, fifteen = os.getloadavg()
    return {"1min": round(one, 2), "5min": round(five, 2), "15min": round(fifteen, 2)}


def disks() -> list[dict[str, Any]]:
    """Return the size and use of each mounted disk, in bytes."""
    found: dict[str, dict[str, Any]] = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/mounts").read_text().splitlines():
            device, mount, kind, *_ = line.split()
            if kind in _REAL and device not in found:
                with contextlib.suppress(OSError):
                    found[device] = {"mount": mount, **disk_use(mount)}
    return list(found.values())


def disk_use(path: str) -> dict[str, Any]:
    """Return total, used and percent of the file system of a path, as `df` counts them."""
    numbers = os.statvfs(path)
    total = numbers.f_blocks * numbers.f_frsize
    used = (numbers.f_blocks - numbers.f_bfree) * numbers.f_frsize
    usable = used + numbers.f_bavail * numbers.f_frsize
    return {"total": total, "used": used, "percent": _percent(used, usable)}


def _percent(part: float, whole: float) -> float:
    return round(100 * part / whole, 1) if whole else 0.0


def os_release() -> dict[str, str]:
    """Return the distribution and its version, "" where nothing says so."""
    with contextlib.suppress(OSError):
        release = platform.freedesktop_os_release()
        return {"distribution": release.get("ID", ""), "version": release.get("VERSION_ID", "")}
    return {"distribution": "", "version": ""}


def uptime() -> float:
    """Return the seconds since the machine started."""
    return float(Path("/proc/uptime").read_text().split()[0])


def primary_interface() -> str:
    """Return the network interface of the default route, "" without one."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/net/route").read_text().splitlines()[1:]:
            name, destination, *_ = line.split()
            if destination == "00000000":
                return name
    return ""


def _manager(candidates: Mapping[str, str]) -> str:
    return next((name for name, path in candidates.items() if Path(path).exists()), "")


def gather() -> dict[str, Any]:
    """Return what this machine is (docs/semantics.md 2.5, the agent view)."""
    return {
        "hostname": socket.gethostname(),
        "architecture": architecture(),
        "kernel_version": platform.release(),
        "cpu_count": os.cpu_count() or 1,
        "memory": memory(),
        "load_average": load(),
        "disks": disks(),
        "uptime": round(uptime()),
        "os_info": os_release(),
        "interfaces": sorted(name for _, name in socket.if_nameindex()),
        "primary_interface": primary_interface(),
        "service_mgr": _manager({"systemd": "/run/systemd/system", "openrc": "/run/openrc"}),
        "package_mgr": _manager(
            {"apt": "/usr/bin/apt-get", "dnf": "/usr/bin/dnf", "apk": "/sbin/apk"}
        ),
        "python_version": platform.python_version(),
    }


def capabilities() -> dict[str, Any]:
    """Return what this node can run; blocks while the pipeline engine speaks for itself.

    Without an engine the reason stands under `pipeline`, and no pipeline component is named.
    """
    return {**_of_engine(), **_of_operations(), "runtimes": script.available()}


def _of_engine() -> dict[str, Any]:
    try:
        engine = importlib.import_module("agent.engine.api")
    except ImportError as error:
        return {"pipeline": {"available": False, "reason": str(error)}}
    found = asdict(engine.capabilities())
    engine.close()
    words = ("available", "reason", "engine_version", "connect_version")
    said = {word: found.pop(word) for word in words}
    return {"pipeline": said, **found}


def _of_operations() -> dict[str, Any]:
    return operations.capabilities()


class Gauge:
    """Measures the use of the machine between one heartbeat and the next."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self._busy, self._all = _cpu_times()

    def resources(self) -> dict[str, Any]:
        """Return the use of CPU, memory and the agent's own disk (docs/semantics.md 1.10)."""
        busy, every = _cpu_times()
        cpu = _percent(busy - self._busy, every - self._all)
        self._busy, self._all = busy, every
        now, disk = memory(), disk_use(self._folder)
        return {
            "cpu_percent": cpu,
            "memory_percent": _percent(now["used"], now["total"]),
            "memory_used_bytes": now["used"],
            "memory_capacity_bytes": now["total"],
            "disk_percent": disk["percent"],
            "disk_used_bytes": disk["used"],
            "disk_capacity_bytes": disk["total"],
        }


def _cpu_times() -> tuple[int, int]:
    with Path("/proc/stat").open() as file:
        times = [int(text) for text in file.readline().split()[1:9]]
    return sum(times) - times[3] - times[4], sum(times)


def conditions(resources: Mapping[str, Any], *, journal_full: bool) -> list[dict[str, Any]]:
    """Return the conditions of this node with the thresholds of docs/semantics.md 2.5."""
    load_limit = LOAD_PER_CPU * (os.cpu_count() or 1)
    fullest = max((disk["percent"] for disk in disks()), default=resources["disk_percent"])
    found = {
        "MemoryPressure": (
            resources["memory_percent"] > MEMORY_PRESSURE,
            f"{resources['memory_percent']:g} % of the memory is used",
        ),
        "HighLoad": (
            load()["1min"] > load_limit,
            f"load {load()['1min']:g}, limit {load_limit:g}",
        ),
        "DiskPressure": (
            max(fullest, resources["disk_percent"]) > DISK_PRESSURE,
            f"the fullest disk is at {max(fullest, resources['disk_percent']):g} %",
        ),
        "JournalFull": (journal_full, "no room for new work" if journal_full else ""),
    }
    return [
        {"type": name, "status": status, "reason": reason}
        for name, (status, reason) in found.items()
    ]
