"""Row 12: what a page costs the server, and what a visit costs the wire, for every kind of page.

The server's time is what the request's log line says: everything but the socket. A first visit is
the page and every file it names, as a browser asks for them; the next one is the page alone, as
the files' names hold a hash and are kept for ever.
"""

import argparse
import logging
import re
import statistics

from ground import ground, make_fleet, make_rollout, pipeline, sql
from ledger import Figure, load, record, spread

VISITS = 12
JOBS = 49
ASSET = re.compile(r'(?:src|href)="(/static/[^"#]+)')


class Durations(logging.Handler):
    """The milliseconds of each request, from its line in the log."""

    def __init__(self):
        super().__init__()
        self.last = 0.0

    def emit(self, entry):
        """Keep what the newest line says."""
        self.last = entry.data["duration_ms"]


def fill():
    """Make a fleet with a page of jobs and of rollouts, one of them under way; give addresses."""
    from django.urls import reverse

    from access.services import Actor
    from jobs.services import Submission, submit_job
    from rollouts.scheduler import reconcile_job

    make_fleet(60)
    for number in range(JOBS):
        spec = pipeline(f"job-{number}", strategy="immediate")
        reconcile_job(submit_job(Actor(name="bench"), Submission(spec=spec)).job.pk)
    job, rollout = make_rollout(max_parallel=20)
    sql("ANALYZE")
    ((execution,),) = sql("SELECT id FROM rollouts_execution WHERE job_id = %s LIMIT 1", [job.pk])
    return {
        "dashboard": "/",
        "jobs": "/jobs/",
        "job": f"/jobs/{job.pk}/",
        "nodes": "/nodes/",
        "rollouts": "/rollouts/",
        "rollout": f"/rollouts/{rollout.pk}/",
        "executions": reverse("rollouts:executions"),
        "execution": reverse("rollouts:execution", args=[execution]),
    }


def weight(http, address):
    """Give the bytes of an answer's body as it came over the wire, and the answer."""
    with http.stream("GET", address) as answer:
        size = sum(len(chunk) for chunk in answer.iter_raw())
    assert answer.status_code == 200, (address, answer.status_code)
    return size, answer


def visit(http, address, durations):
    """Give milliseconds of several visits, the bytes of the first one and of the next."""
    took, address = [], http.get(address, follow_redirects=True).url.path
    for _ in range(VISITS + 2):
        size, _ = weight(http, address)
        took.append(durations.last)
    files = set(ASSET.findall(http.get(address).text)) | {"/static/icons.svg"}
    first = size
    for name in files:
        found, answer = weight(http, name)
        is_kept = "immutable" in answer.headers.get("cache-control", "")
        assert is_kept or name == "/static/icons.svg", (name, answer.headers)
        first += found
    return took[2:], first, size


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.parse_args()
    at_start = load()
    durations = Durations()
    with ground():
        import httpx
        from django.core.management import call_command
        from pages_bench import signed_in

        from tests.rollouts.servers import running_server

        call_command("collectstatic", verbosity=0, interactive=False)
        pages, cookie = fill(), signed_in()
        logging.getLogger("httpx").setLevel(logging.WARNING)
        options = {"headers": {"Accept-Encoding": "gzip"}, "timeout": 30}
        options["cookies"] = {cookie["name"]: cookie["value"]}
        with (
            running_server(lifespan="off") as server,
            httpx.Client(base_url=server.http, **options) as http,
        ):
            # The server's own set-up has configured the log anew.
            logging.getLogger("jobsite.request").addHandler(durations)
            found = {name: visit(http, at, durations) for name, at in pages.items()}
    for name, (took, first, following) in found.items():
        print(f"{name:>12}: {spread(took, 'ms', 1, 1)}; {first:,} bytes, then {following:,}")
    record([figure(found)], at_start)


def figure(found):
    """Make the row of the table."""
    slowest = max(found, key=lambda name: statistics.median(found[name][0]))
    took = found[slowest][0]
    first = max(it[1] for it in found.values())
    following = max(it[2] for it in found.values())
    return Figure(
        row="12",
        what=f"pages: server time of the slowest ({slowest}); bytes of a first and of a next visit",
        goal="<= 8 ms, <= 60 kB, <= 10 kB",
        figure=f"{spread(took, 'ms', 1, 1)}; {first / 1e3:.1f} kB, {following / 1e3:.1f} kB",
        met=statistics.median(took) <= 8 and first <= 60_000 and following <= 10_000,
        method="; ".join(
            f"{name} {statistics.median(it[0]):.1f} ms, {it[2] / 1e3:.1f} kB"
            for name, it in found.items()
        )
        + f"; medians of {VISITS}, the handler with all middleware, in a process that also asks",
        why=(
            "rows of a table are rendered by Django's templates, and a page with a board renders "
            "the fragments that live pushes also send; bytes meet the goal"
        ),
    )


if __name__ == "__main__":
    main()
