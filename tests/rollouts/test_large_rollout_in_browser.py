"""A rollout of a hundred thousand nodes in a real browser: it opens, stays small, and moves."""

import pytest
from django.db import connection, connections, transaction
from django.test import Client
from playwright.sync_api import expect

from rollouts.models import Rollout
from rollouts.tally import count_marks_of
from tests.chromium import launched, needs_chromium
from tests.rollouts import fleet
from tests.rollouts.servers import running_server
from tests.stack import PROJECT

NODES = 100_000
WAVE = 10_000
# Without a bell a page is drawn anew after 10 s: with more patience a lost push would not show.
SOON = 9_900
UNIQUE = ("name", "hostname", "machine_id", "public_key", "fingerprint")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    needs_chromium,
]


def grow(rollout):
    """Copy the rollout's one node, target and execution until it has all nodes.

    The first wave is stable, the second on its way, the rest has not been sent.
    """
    node, target, execution = (
        _columns(table) for table in ("nodes_node", "rollouts_rollouttarget", "rollouts_execution")
    )
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = 0")
        cursor.execute(
            f"INSERT INTO nodes_node ({', '.join(node)}) SELECT "
            + ", ".join(
                {"id": "uuidv7()", "last_edge_seq_num": "0"}.get(
                    name, f"{name} || '-' || g" if name in UNIQUE else name
                )
                for name in node
            )
            + f" FROM nodes_node, generate_series(2, {NODES}) g"
        )
        cursor.execute(
            "WITH placed AS (SELECT id, row_number() OVER (ORDER BY id) AS place FROM nodes_node) "
            f"INSERT INTO rollouts_rollouttarget ({', '.join(target)}) SELECT "
            + ", ".join(
                {
                    "node_id": "p.id",
                    "position": "p.place",
                    "wave": f"CASE WHEN p.place <= {WAVE} THEN 1 "
                    f"WHEN p.place <= {2 * WAVE} THEN 2 ELSE 0 END",
                    "state": f"CASE WHEN p.place <= {WAVE} THEN 'updated' "
                    f"WHEN p.place <= {2 * WAVE} THEN 'released' ELSE 'remaining' END",
                }.get(name, f"t.{name}")
                for name in target
            )
            + " FROM rollouts_rollouttarget t, placed p WHERE p.place > 1"
        )
        cursor.execute(
            f"INSERT INTO rollouts_execution ({', '.join(execution)}) SELECT "
            + ", ".join(
                {
                    "node_id": "t.node_id",
                    "rollout_wave": "t.wave",
                    "id": "uuidv7()",
                    "observed_state": "CASE t.wave WHEN 1 THEN 'running' ELSE 'starting' END",
                    "stable_at": "CASE t.wave WHEN 1 THEN now() END",
                    "delivered_seq": "e.desired_seq",
                }.get(name, f"e.{name}")
                for name in execution
            )
            + " FROM rollouts_execution e, rollouts_rollouttarget t "
            "WHERE t.wave > 0 AND t.node_id <> e.node_id"
        )
        cursor.execute("ANALYZE")
    Rollout.objects.filter(pk=rollout.pk).update(
        total_nodes=NODES,
        updated_nodes=WAVE - 1,
        wave_size=WAVE,
        current_wave=2,
        total_waves=NODES // WAVE,
    )


def _columns(table):
    with connection.cursor() as cursor:
        found = connection.introspection.get_table_description(cursor, table)
    generated = {"id"} if table == "rollouts_rollouttarget" else set()
    return [column.name for column in found if column.name not in generated]


def counts(rollout):
    """Give how many nodes of the open wave look how, as the tally has them."""
    rows = count_marks_of([rollout])[rollout.pk]
    return {row.kind: row.count for row in rows if row.wave == 2}


def static_file(url):
    """Give the file behind an address of a static one."""
    return PROJECT / "static" / url.partition("/static/")[2]


@pytest.fixture
def large(cast):
    fleet.make_nodes(1)
    rollout = fleet.start(fleet.spec_of(strategy="rolling", max_parallel=10))
    (one,) = fleet.executions(rollout)
    fleet.take_up(one)
    grow(rollout)
    return Rollout.objects.select_related("job", "version").get(pk=rollout.pk)


def test_a_page_of_a_hundred_thousand_nodes_opens_and_stays_live(large, cast):
    waiting = fleet.executions(large, "starting")[:3]
    client = Client()
    client.force_login(cast.vera)
    cookie = {"name": "session", "value": client.cookies["session"].value}
    frames = []

    def hear(text):
        frames.append(text)

    with running_server(lifespan="off") as server, launched() as browser:
        context = browser.new_context()
        context.add_cookies([cookie | {"url": server.http}])
        page, wrong = context.new_page(), []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("websocket", lambda it: it.on("framereceived", hear))
        # The test's server was made before there were collected files.
        page.route("**/static/**", lambda it: it.fulfill(path=static_file(it.request.url)))
        page.goto(f"{server.http}/rollouts/{large.pk}/")
        nodes = page.locator(f"#rollout-{large.pk}-nodes")
        expect(nodes).to_contain_text("10,000 starting")
        expect(page.locator("#live-badge")).to_contain_text("Live", timeout=SOON)
        assert page.evaluate("document.querySelectorAll('*').length") <= 3_000
        for done, execution in enumerate(waiting, start=1):
            before = len(frames)
            fleet.report(execution, fleet.in_state(execution, "running"))
            expect(nodes).to_contain_text(f"{WAVE - done:,} starting", timeout=SOON)
            assert sum(len(text) for text in frames[before:]) <= 40_000  # at most two pushes
        assert counts(large) == {"starting": WAVE - 3, "validating": 3}
        context.close()
        connections.close_all()  # those of playwright's event loop, which ends here
    assert wrong == []
