"""Builds the planner's input from the database, in a fixed number of queries. Reads only."""

from datetime import datetime, timedelta

from jobs.models import JobVersion
from rollouts.models import Rollout
from rollouts.placement import count_resurrectable
from rollouts.planner import OpenWave, Snapshot
from rollouts.sets import fetch
from rollouts.states import PauseReason, RolloutState, RolloutType, Strategy
from rollouts.targets import FIT
from rollouts.terms import Terms


def build_snapshot(rollout: Rollout, terms: Terms, now: datetime) -> Snapshot:
    """Count what a decision about this rollout may depend on: four queries for any size."""
    remaining, deferred = _list_counts(rollout)
    fit, head = _count_fit(rollout)
    wave, next_deadline_at = _wave_counts(rollout, terms, now)
    paused = rollout.state == RolloutState.PAUSED
    awaiting = paused and rollout.pause_reason == PauseReason.AWAITING_PROMOTION
    return Snapshot(
        rollout_type=RolloutType(rollout.rollout_type),
        policy=terms.policy,
        paused=paused and not awaiting,
        awaiting_promotion=awaiting,
        promote_requested=rollout.promote_requested,
        canary_promoted=rollout.canary_promoted,
        one_shot=terms.one_shot,
        total_nodes=rollout.total_nodes,
        updated_nodes=rollout.updated_nodes,
        failed_nodes=rollout.failed_nodes,
        total_at_failure=rollout.total_at_failure,
        remaining=remaining,
        fit=fit,
        fit_canary=fit,
        next_ring=head if terms.order.by == "rings" else None,
        deferred=deferred,
        wave=wave,
        canaries_failed=wave.failed if wave.number == 1 and rollout.canary_size else 0,
        resurrectable=count_resurrectable(rollout) if rollout.failed_nodes else 0,
        rollback_to_version=rollout.rollback_to_version,
        rollback_is_identical=_is_identical(rollout),
        next_deadline_at=next_deadline_at,
    )


def _list_counts(rollout: Rollout) -> tuple[int, int]:
    """Return how many nodes remain in the list, and how many are deferred: two rows, not a fleet.

    The tally is kept by the statements that move nodes (ADR 0012), so it is exact here.
    """
    (row,) = fetch(
        """
        SELECT coalesce(sum(count) FILTER (WHERE state = 'remaining'), 0),
            coalesce(sum(count) FILTER (WHERE state = 'deferred'), 0)
        FROM rollouts_rollouttally WHERE rollout_id = %s
        """,
        [rollout.id],
    )
    return int(row[0]), int(row[1])


def _count_fit(rollout: Rollout) -> tuple[int, int]:
    """Count nodes of the list that can take work now, up to one wave, and the head of them.

    The head are those before the first of another ring: a wave never mixes rings (X93).
    """
    cap = max(rollout.wave_size, rollout.canary_size, 1)
    (row,) = fetch(
        f"""
        WITH fit AS (
            SELECT t.position, t.ring FROM rollouts_rollouttarget t
            WHERE t.rollout_id = %s AND t.state = 'remaining'
                AND (SELECT {FIT} FROM nodes_node n WHERE n.id = t.node_id)
            ORDER BY t.position LIMIT %s
        ), head AS (SELECT ring FROM fit ORDER BY position LIMIT 1)
        SELECT count(*), count(*) FILTER (WHERE position < coalesce(
            (SELECT min(position) FROM fit WHERE ring <> (SELECT ring FROM head)),
            9223372036854775807))
        FROM fit
        """,  # noqa: S608 - the fragment is ours
        [rollout.id, cap],
    )
    return int(row[0]), int(row[1])


def _wave_counts(rollout: Rollout, terms: Terms, now: datetime) -> tuple[OpenWave, datetime | None]:
    """Count the nodes of the open wave by their end, and find its next clock.

    A stable execution is unwell when it is not running now, or has been silent for three
    intervals although its node is connected (docs/semantics.md X10, C07).
    """
    if rollout.current_wave == 0 and rollout.strategy != Strategy.IMMEDIATE:
        return OpenWave(), None  # the nodes that remain have this number too
    silent_since = now - terms.health.interval * 3 - timedelta(seconds=1)
    watched = terms.validates and rollout.canary_size and not rollout.canary_promoted
    (row,) = fetch(
        """
        SELECT count(*) FILTER (WHERE t.state <> 'left'),
            count(*) FILTER (WHERE t.state = 'released'),
            count(*) FILTER (WHERE t.state = 'updated'),
            count(*) FILTER (WHERE t.state = 'failed'),
            count(*) FILTER (WHERE t.state = 'updated' AND %s AND (
                e.observed_state NOT IN ('running', 'completed') OR e.unhealthy_streak > 0
                OR e.last_window_at < %s)),
            min(coalesce(e.deadline_at, before.deadline_at)) FILTER (WHERE t.state = 'released')
        FROM rollouts_rollouttarget t
        LEFT JOIN rollouts_execution e
            ON e.rollout_id = t.rollout_id AND e.node_id = t.node_id
        -- While the one before it stops, that one's clock is the next to run out.
        LEFT JOIN rollouts_execution before
            ON before.id = e.previous_id AND t.state = 'released' AND e.deadline_at IS NULL
        WHERE t.rollout_id = %s AND t.wave = %s
            AND t.state IN ('released', 'updated', 'failed', 'stopped')
        """,
        [bool(watched), silent_since, rollout.id, rollout.current_wave],
    )
    size, unsettled, stable, failed, unwell, deadline = row
    return (
        OpenWave(
            number=rollout.current_wave,
            size=size,
            unsettled=unsettled,
            stable=stable,
            stable_but_unwell=unwell,
            failed=failed,
        ),
        deadline,
    )


def _is_identical(rollout: Rollout) -> bool:
    """Say whether the version to return to would run just what this one runs (docs/semantics.md X20)."""
    if not rollout.rollback_to_version:
        return False
    stable = JobVersion.objects.filter(
        job_id=rollout.job_id, number=rollout.rollback_to_version
    ).values_list("run_hash", flat=True)
    return rollout.version.run_hash in list(stable)
