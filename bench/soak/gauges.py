"""What is measured of processes, PostgreSQL and Valkey, and how much of it may grow."""

import contextlib

import psutil
import psycopg
from redis import Redis

from bench.soak.judge import Limit

# KiB for each 1,000 units of work; below the noise of an allocator nothing is said.
MEMORY = Limit(per_thousand=64, noise=1024)
# Descriptors, threads, connections and keys do not grow at all.
COUNT = Limit(per_thousand=0.5, noise=6)
DEAD = Limit(per_thousand=50, noise=400)
SIZE = Limit(per_thousand=32, noise=256)
VALKEY = Limit(per_thousand=16, noise=256)
# Tables whose rows are written again and again and hardly ever added.
REWRITTEN = (
    "nodes_nodepresence",
    "nodes_node",
    "nodes_ingestclock",
    "jobs_job",
    "rollouts_jobtally",
    "access_epoch",
)
COUNTS = """
    SELECT (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()),
        (SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'
            AND state_change < now() - interval '5 seconds'),
        (SELECT sum(n_dead_tup)::bigint FROM pg_stat_user_tables),
        (SELECT max(pg_total_relation_size(relid)) FROM pg_stat_user_tables WHERE relname = ANY(%s))
"""
WORK = """
    SELECT (SELECT coalesce(sum(last_edge_seq_num), 0)::bigint FROM nodes_node),
        (SELECT count(*) FROM rollouts_evaluation)
"""
HOT = """
    SELECT relname, n_tup_upd, round(100.0 * n_tup_hot_upd / n_tup_upd), n_dead_tup,
        autovacuum_count
    FROM pg_stat_user_tables WHERE n_tup_upd > 500 ORDER BY n_tup_upd DESC LIMIT 8
"""


class Gauges:
    """Reads everything at one moment: {gauge: value}."""

    def __init__(self, product, agents):
        self._product = product
        self._names = ("web", "worker", "beat", *(f"edge-{k + 1}" for k in range(agents)))
        self._database = psycopg.connect(product.urls["DATABASE_URL"], autocommit=True)
        self._valkey = Redis.from_url(product.urls["REDIS_URL"])
        # Celery's queue has a database of its own there.
        self._broker = Redis.from_url(product.urls["REDIS_URL"].replace("db=0", "db=1"))
        # An hour's vacuums have to pass too.
        for setting in ("autovacuum_naptime = '5s'", "track_counts = on"):
            self._database.execute(f"ALTER SYSTEM SET {setting}")
        self._database.execute("SELECT pg_reload_conf()")

    def read(self):
        """Return the value of each gauge; memory in KiB."""
        values = {}
        for name in self._names:
            values |= self._read_process(name)
        connections, stuck, dead, size = self._database.execute(
            COUNTS, [list(REWRITTEN)]
        ).fetchone()
        memory = self._valkey.info("memory")["used_memory"]
        return values | {
            "database connections": connections,
            "database stuck in transaction": stuck,
            "database dead rows": dead,
            "database rewritten table": size / 1024,
            "valkey memory": memory / 1024,
            "valkey keys": self._valkey.dbsize(),
            "valkey bells": self.bells(),
            "valkey clients": len(self._valkey.client_list()),
        }

    def bells(self):
        """Return how many bells wait to be answered."""
        return self._broker.llen("celery")

    def work(self):
        """Return how many frames of agents were committed, and how many decisions made."""
        return self._database.execute(WORK).fetchone()

    def hot(self):
        """Return of the busiest tables: name, updates, per cent in place, dead rows, vacuums."""
        return self._database.execute(HOT).fetchall()

    def close(self):
        """Close the connections."""
        self._database.close()
        self._valkey.close()
        self._broker.close()

    def _read_process(self, name):
        process = self._product.child(name)
        if process is None:
            return {}
        memory = threads = files = 0
        with contextlib.suppress(psutil.NoSuchProcess):
            for each in self._family(name, process):
                memory += each.memory_full_info().uss / 1024
                threads += each.num_threads()
                files += each.num_fds()
            return {
                f"{name} memory": memory,
                f"{name} threads": threads,
                f"{name} descriptors": files,
            }
        return {}

    def _family(self, name, process):
        """A worker is its pool too; what an agent runs is not the agent."""
        return [process, *(process.children() if name == "worker" else ())]


def limit_of(gauge):
    """Return the limit and the unit of a gauge."""
    if gauge.startswith("valkey memory"):
        return VALKEY, "KiB"
    if gauge.endswith(" memory"):
        return MEMORY, "KiB"
    if gauge.endswith("dead rows"):
        return DEAD, ""
    if gauge.endswith("rewritten table"):
        return SIZE, "KiB"
    return COUNT, ""
