"""Which fault happens when: everything about a run that a seed decides."""

import random
from dataclasses import dataclass

# Kind -> how often it is drawn, and the seconds that it lasts (0: it is over at once).
KINDS = {
    "worker.kill": (6, 0.0, 0.0),
    "worker.child": (5, 0.0, 0.0),
    "worker.term": (3, 0.0, 0.0),
    "worker.stop": (5, 0.5, 8.0),
    "beat.kill": (3, 0.0, 0.0),
    "beat.stop": (2, 1.0, 10.0),
    "web.kill": (6, 0.0, 0.0),
    "web.term": (3, 0.0, 0.0),
    "web.stop": (4, 0.5, 6.0),
    "agent.kill": (12, 0.0, 0.0),
    "agent.term": (5, 0.0, 0.0),
    "agent.stop": (6, 0.5, 8.0),
    "postgres.kill": (2, 0.0, 0.0),
    "postgres.crash": (2, 0.0, 0.0),
    "postgres.restart": (1, 0.0, 0.0),
    "postgres.cut": (3, 0.0, 0.0),
    "postgres.stop": (2, 0.5, 4.0),
    "postgres.crowd": (2, 0.5, 4.0),
    "valkey.kill": (3, 0.0, 0.0),
    "valkey.wipe": (2, 0.0, 0.0),
    "valkey.flush": (5, 0.0, 0.0),
    "valkey.stop": (2, 0.5, 5.0),
    "net.reset": (8, 0.0, 0.0),
    "net.down": (3, 2.0, 12.0),
    "net.mute": (4, 2.0, 12.0),
    "net.deaf": (4, 2.0, 12.0),
    "net.slow": (4, 2.0, 10.0),
    "net.torn": (8, 0.0, 0.0),
    "net.lost": (5, 1.0, 8.0),
    "net.replay": (6, 0.0, 0.0),
    "herd.reset": (2, 0.0, 0.0),
    "herd.down": (1, 2.0, 6.0),
    "disk.full": (3, 2.0, 8.0),
    "clock.shift": (2, 4.0, 15.0),
}
OFFSETS = (-315_360_000, -3600, -90, 90, 3600, 315_360_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault: `pick` in [0, 1) chooses its victim among those that stand, `number` its detail."""

    at: float
    kind: str
    pick: float
    lasts: float
    number: int


def make_schedule(seed, seconds, per_second, without=()):
    """Give the faults of a run in their order; the same for the same arguments, always.

    The first draw goes through every kind once, in a seeded order; then the weights decide.
    """
    rng = random.Random(seed)
    kinds = [kind for kind in KINDS if kind not in without]
    first = rng.sample(kinds, len(kinds))
    weights = [KINDS[kind][0] for kind in kinds]
    faults, at = [], 0.0
    while True:
        at += rng.expovariate(per_second)
        if at >= seconds:
            return faults
        kind = first.pop() if first else rng.choices(kinds, weights)[0]
        _, least, most = KINDS[kind]
        faults.append(
            Fault(
                at=at,
                kind=kind,
                pick=rng.random(),
                lasts=rng.uniform(least, most),
                number=rng.randrange(1 << 30),
            )
        )
