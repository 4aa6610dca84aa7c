"""Runs a Stack in a process of its own: prints its URLs and notes, stops on TERM."""

import json
import signal
import sys
import threading
from pathlib import Path

from jobsite.embedded import EmbeddedError, Stack

end = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: end.set())
try:
    with Stack(Path(sys.argv[1]), Path(sys.argv[2])) as stack:
        told = stack.urls | {"pids": [child.pid for _, child in stack._children]}
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()
        while not end.wait(0.1):
            pass
except EmbeddedError as error:
    sys.exit(str(error))
