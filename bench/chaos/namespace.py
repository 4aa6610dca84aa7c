"""A network of the run's own, in which packets between an agent and the webs can vanish."""

import ctypes
import fcntl
import os
import shutil
import socket
import struct
import subprocess

CLONE_NEWNET = 0x40000000
SIOCSIFFLAGS = 0x8914
IFF_UP, IFF_RUNNING = 0x1, 0x40


def enter():
    """Move this process, and what it starts, to a network namespace of its own; say whether.

    To be called before there are threads. It takes root, and `ip` for the routes.
    """
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
        return False
    with socket.socket() as any_socket:
        request = struct.pack("16sH14x", b"lo", IFF_UP | IFF_RUNNING)
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, request)
    return True


def drop_packets_to(host):
    """Let everything sent to an address vanish: nobody is told, TCP sends it again and again."""
    _route("add", host)


def deliver_packets_to(host):
    """End what `drop_packets_to` began."""
    _route("del", host)


def _route(verb, host):
    command = ["ip", "route", verb, "blackhole", host, "table", "local"]
    subprocess.run(command, check=False, capture_output=True)
