"""Rows 16 and 17: the live page of a rollout of 100 to 100,000 nodes, as server and browser see it.

The page is open in a chromium while reports go through the ingest. A push is timed where the
socket's consumer renders it; its bytes are those of the boxes that changed, as text and as the
socket's compression sends them.
"""

import argparse
import logging
import shutil
import statistics
import time
import zlib

from ground import forget_nodes, ground, make_fleet, make_rollout, sql
from ledger import Figure, exponent, load, record, spread

SIZES = (100, 1_000, 10_000, 100_000)
PUSHES = 12
BATCH = 20
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]
LIVE = r"() => /^Live \d/.test(document.querySelector('#live-badge').textContent)"
BARE = """
SELECT t.wave, t.state, t.ring, e.observed_state, count(*) FROM rollouts_rollouttarget t
LEFT JOIN rollouts_execution e ON e.rollout_id = t.rollout_id AND e.node_id = t.node_id
WHERE t.rollout_id = %s GROUP BY 1, 2, 3, 4
"""


def timed(work):
    """Give the seconds that `work` takes, and what it returned."""
    begin = time.perf_counter()
    found = work()
    return time.perf_counter() - begin, found


def report(job, number):
    """Change what nodes of the open wave are seen in, and tell it, as the ingest writes it."""
    sql(
        """
        WITH changed AS (
            UPDATE rollouts_execution e SET revision = revision + 1, observed_state =
                CASE observed_state WHEN 'starting' THEN 'validating' ELSE 'starting' END
            WHERE id = ANY(ARRAY(SELECT id FROM rollouts_execution WHERE job_id = %(job)s
                AND observed_state = %(state)s ORDER BY id LIMIT %(size)s))
            RETURNING *
        ), told AS (
            INSERT INTO jobs_event (job_id, job_seq, namespace, job_version, rollout_id,
                execution_id, node_id, kind, message, details, at)
            SELECT job_id, (SELECT event_seq FROM jobs_job WHERE id = %(job)s)
                + row_number() OVER (), namespace, job_version, rollout_id, id, node_id,
                'execution.observed', 'starting to validating', jsonb_build_object(
                'new_state', observed_state, 'node', (SELECT name FROM nodes_node n
                WHERE n.id = node_id)), now() FROM changed RETURNING job_id
        )
        UPDATE jobs_job SET event_seq = event_seq + (SELECT count(*) FROM told)
        WHERE id = %(job)s
        """,
        {"job": job.pk, "size": BATCH, "state": ("starting", "validating")[number % 2]},
    )


def measure_pushes(job, rollout, tab):
    """Give seconds, characters and compressed bytes of each push while nodes report."""
    from live.consumers import render_parts
    from live.registry import noun_named
    from rollouts.fragments import parts_beside

    noun, parts = noun_named("rollout"), frozenset(parts_beside(tab))
    shown = {}
    squeeze = zlib.compressobj(wbits=-15)
    found = {"seconds": [], "text": [], "wire": []}
    for number in range(PUSHES + 2):
        report(job, number)
        seconds, texts = timed(lambda: render_parts(noun, str(rollout.pk), parts))
        news = "".join(it.text for name, it in texts.items() if shown.get(name) != it.shown)
        shown = {name: it.shown for name, it in texts.items()}
        wire = squeeze.compress(news.encode()) + squeeze.flush(zlib.Z_SYNC_FLUSH)
        if number >= 2:  # the first fill caches and send all boxes
            found["seconds"].append(seconds)
            found["text"].append(len(news.encode()))
            found["wire"].append(len(wire))
    return found


def signed_in():
    """Give the cookie of a person who may see everything."""
    from django.conf import settings
    from django.contrib.auth import get_user_model
    from django.test import Client

    person, _ = get_user_model().objects.get_or_create(
        username="bench", is_staff=True, is_superuser=True
    )
    client = Client()
    client.force_login(person)
    name = settings.SESSION_COOKIE_NAME
    return {"name": name, "value": client.cookies[name].value}


def measure_page(site, rollout):
    """Open the page in a browser; give seconds until it is live, and its DOM nodes."""
    from playwright.sync_api import sync_playwright

    cookie = signed_in()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        context = browser.new_context()
        context.add_cookies([cookie | {"url": site}])
        page, address = context.new_page(), f"{site}/rollouts/{rollout.pk}/"
        opened = [timed(lambda: _open(page, address))[0] for _ in range(4)]
        nodes = page.evaluate("document.querySelectorAll('*').length")
        browser.close()
    return opened[1:], nodes


def _open(page, address):
    page.goto(address)
    page.wait_for_function(LIVE, timeout=20_000)


def measure(site, size):
    """Make a fleet and its rollout, and measure its page."""
    forget_nodes()
    make_fleet(size)
    job, rollout = make_rollout(max_parallel=10)
    bare = [timed(lambda: sql(BARE, [rollout.pk]))[0] for _ in range(5)]
    found = {tab: measure_pushes(job, rollout, tab) for tab in ("events", "failures", "health")}
    opened, nodes = measure_page(site, rollout) if CHROMIUM else ([0.0], 0)
    print(
        f"{size:>8,} nodes: "
        + "; ".join(
            f"{tab} {statistics.median(it['seconds']) * 1e3:.1f} ms, "
            f"{max(it['text']) / 1e3:.1f} kB ({max(it['wire']) / 1e3:.1f} sent)"
            for tab, it in found.items()
        )
        + f"; open {statistics.median(opened) * 1e3:.0f} ms, {nodes} DOM nodes; "
        f"counting anew {statistics.median(bare) * 1e3:.1f} ms",
        flush=True,
    )
    return found, opened, nodes, bare


def figures(measured):
    """Make the rows of the table."""
    size = max(measured)
    found, opened, nodes, bare = measured[size]
    seconds = found["events"]["seconds"]
    slowest = max(statistics.median(it["seconds"]) for it in found.values())
    largest = max(max(it["text"]) for it in found.values())
    yield Figure(
        row="16",
        what=f"live page of a {size:,}-node rollout: server time and bytes of a push, DOM nodes",
        goal="<= 30 ms, <= 20 kB, <= 3,000",
        figure=(
            f"{spread(seconds, 'ms', 1e3, 1)}, slowest tab {slowest * 1e3:.1f} ms; "
            f"at most {largest / 1e3:.1f} kB; {nodes:,} DOM nodes"
        ),
        met=slowest <= 0.03 and largest <= 20_000 and nodes <= 3_000,
        method=(
            f"{PUSHES} pushes of {BATCH} reports on each of {len(found)} tabs; compressed at most "
            f"{max(max(it['wire']) for it in found.values()) / 1e3:.1f} kB; opens and is live in "
            f"{spread(opened, 'ms', 1e3, 0)}; counting its nodes anew by one bare statement "
            f"{spread(bare, 'ms', 1e3, 1)}"
        ),
    )
    if len(measured) > 1:
        points = [
            (size, statistics.median(it[0]["events"]["seconds"])) for size, it in measured.items()
        ]
        slope = exponent(points)
        yield Figure(
            row="17p",
            what="growth of a push's server time with the nodes of the rollout",
            goal="exponent 0",
            figure=f"{slope:.2f}",
            met=slope <= 0.1,
            method=", ".join(f"{size:,}: {took * 1e3:.1f} ms" for size, took in points),
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    sizes = parser.parse_args().sizes
    at_start = load()
    logging.disable(logging.INFO)
    with ground():
        from django.core.management import call_command

        call_command("collectstatic", verbosity=0, interactive=False)
        from tests.rollouts.servers import running_server

        with running_server(lifespan="off") as server:
            measured = {size: measure(server.http, size) for size in sizes}
    record(list(figures(measured)), at_start)


if __name__ == "__main__":
    main()
