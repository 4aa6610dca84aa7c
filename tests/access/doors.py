"""The table of every address and who may pass: a new address without a row fails the tests.

PUBLIC is for anybody, SIGNED_IN for any account, STAFF for the admin pages. A permission is asked
for in the namespace of the row that the address names: without it 403, outside the namespace 404.
"""

from dataclasses import dataclass

from rollouts.operation_api import operation_patterns

PUBLIC, SIGNED_IN, STAFF = "public", "signed in", "staff"
# A typed operation: tests/rollouts/test_operations.py tries each with every role.
OPERATION = "operation"


@dataclass(frozen=True, slots=True)
class Door:
    """Who may pass, by which method, and an address to try it with ({rollout} is one's id)."""

    who: str
    method: str = "GET"
    address: str = ""


DOORS = {
    "": Door(SIGNED_IN),
    "sign-in/": Door(PUBLIC),
    "sign-in/once/<str:token>/": Door(PUBLIC),
    "sign-out/": Door(SIGNED_IN, "POST"),
    "tokens/": Door(SIGNED_IN),
    "tokens/<str:token_id>/revoke/": Door(SIGNED_IN, "POST"),
    "namespace/": Door(SIGNED_IN, "POST"),
    "live/<slug:noun>/<str:pk>/<slug:name>/": Door(SIGNED_IN),
    "api/schema": Door(SIGNED_IN),
    "agent/v1/enroll": Door(PUBLIC, "POST"),
    "install/agent.pyz": Door(PUBLIC),
    "livez": Door(PUBLIC),
    "readyz": Door(PUBLIC),
    "rollouts/": Door(SIGNED_IN),
    "executions/": Door(SIGNED_IN),
    "executions/<uuid:pk>/": Door("job:read", "GET", "executions/{execution}/"),
    "executions/<uuid:pk>/log.txt": Door("job:read", "GET", "executions/{execution}/log.txt"),
    "operations/": Door(SIGNED_IN),
    # The example's job is no call; tests/rollouts/test_operation_page.py tries one with every role.
    "operations/<uuid:pk>/": Door("job:read"),
    "operations/<uuid:pk>/answers/": Door("job:read"),
    "rollouts/<uuid:pk>/": Door("rollout:read", "GET", "rollouts/{rollout}/"),
    "rollouts/<uuid:pk>/controls/": Door("rollout:read", "GET", "rollouts/{rollout}/controls/"),
    "rollouts/of-job/<uuid:pk>/rollback/": Door(
        "rollout:write", "POST", "rollouts/of-job/{job}/rollback/"
    ),
    "rollouts/<uuid:pk>/rollback/": Door("rollout:write", "POST", "rollouts/{rollout}/rollback/"),
    "rollouts/<uuid:pk>/pause/": Door("rollout:write", "POST", "rollouts/{rollout}/pause/"),
    "rollouts/<uuid:pk>/resume/": Door("rollout:write", "POST", "rollouts/{rollout}/resume/"),
    "rollouts/<uuid:pk>/promote/": Door("rollout:write", "POST", "rollouts/{rollout}/promote/"),
    "rollouts/<uuid:pk>/cancel/": Door("rollout:write", "POST", "rollouts/{rollout}/cancel/"),
    "nodes/": Door(SIGNED_IN),
    "nodes/bulk/": Door(SIGNED_IN, "POST"),
    "nodes/enrol/": Door(SIGNED_IN),
    "nodes/enrol/<int:pk>/revoke/": Door(SIGNED_IN, "POST"),
    "nodes/<uuid:pk>/": Door("agent:read", "GET", "nodes/{node}/"),
    "nodes/<uuid:pk>/controls/": Door("agent:read", "GET", "nodes/{node}/controls/"),
    "nodes/<uuid:pk>/labels/": Door("agent:write", "POST", "nodes/{node}/labels/"),
    "nodes/<uuid:pk>/cordon/": Door("agent:write", "POST", "nodes/{node}/cordon/"),
    "nodes/<uuid:pk>/drain/": Door("agent:write", "POST", "nodes/{node}/drain/"),
    "nodes/<uuid:pk>/undrain/": Door("agent:write", "POST", "nodes/{node}/undrain/"),
    "nodes/<uuid:pk>/accept/": Door("agent:write", "POST", "nodes/{node}/accept/"),
    "nodes/<uuid:pk>/reject/": Door("agent:write", "POST", "nodes/{node}/reject/"),
    "nodes/<uuid:pk>/revoke/": Door("agent:write", "POST", "nodes/{node}/revoke/"),
    "nodes/<uuid:pk>/delete/": Door("agent:write", "POST", "nodes/{node}/delete/"),
    "api/v1/nodes": Door(SIGNED_IN),
    "api/v1/nodes/pending": Door(SIGNED_IN),
    "api/v1/nodes/<str:key>": Door("agent:read", "GET", "api/v1/nodes/{node}"),
    "api/v1/nodes/<str:key>/drain": Door("agent:write", "POST", "api/v1/nodes/{node}/drain"),
    "api/v1/nodes/<str:key>/undrain": Door("agent:write", "POST", "api/v1/nodes/{node}/undrain"),
    "api/v1/nodes/<str:key>/accept": Door("agent:write", "POST", "api/v1/nodes/{node}/accept"),
    "api/v1/nodes/<str:key>/reject": Door("agent:write", "POST", "api/v1/nodes/{node}/reject"),
    "api/v1/nodes/<str:key>/revoke": Door("agent:write", "POST", "api/v1/nodes/{node}/revoke"),
    "api/v1/nodes/<str:key>/history": Door("agent:read", "GET", "api/v1/nodes/{node}/history"),
    "api/v1/enrolment-tokens": Door(SIGNED_IN),
    "api/v1/enrolment-tokens/<int:pk>": Door(SIGNED_IN, "DELETE"),
    "api/v1/namespaces": Door(SIGNED_IN),
    "api/v1/namespaces/<str:name>": Door("namespace:read", "GET", "api/v1/namespaces/prod"),
    "api/v1/tokens": Door(SIGNED_IN),
    "api/v1/tokens/<str:token_id>": Door(SIGNED_IN, "DELETE"),
    "api/v1/evaluations/<str:key>": Door(SIGNED_IN),
    "api/v1/files": Door(SIGNED_IN),
    # The example has no file; tests/jobs/test_file_objects.py tries one with every role.
    "api/v1/files/<path:name>": Door("file:read"),
    "api/v1/executions": Door(SIGNED_IN),
    "api/v1/executions/<str:key>": Door("job:read", "GET", "api/v1/executions/{execution}"),
    "api/v1/executions/<str:key>/history": Door(
        "job:read", "GET", "api/v1/executions/{execution}/history"
    ),
    "api/v1/executions/<str:key>/logs": Door(
        "job:read", "GET", "api/v1/executions/{execution}/logs"
    ),
    # The example has no result yet, so its address is no proof; strangers are swept all the same.
    "api/v1/executions/<str:key>/result": Door("job:read"),
    "api/v1/jobs": Door(SIGNED_IN),
    "api/v1/jobs/<str:key>": Door("job:read", "GET", "api/v1/jobs/{job}"),
    "api/v1/jobs/<str:key>/evaluations": Door("job:read", "GET", "api/v1/jobs/{job}/evaluations"),
    "api/v1/jobs/<str:key>/executions": Door("job:read", "GET", "api/v1/jobs/{job}/executions"),
    "api/v1/jobs/<str:key>/history": Door("job:read", "GET", "api/v1/jobs/{job}/history"),
    "api/v1/jobs/<str:key>/rerun": Door("job:write", "PUT", "api/v1/jobs/{job}/rerun"),
    "api/v1/jobs/<str:key>/results": Door("job:read", "GET", "api/v1/jobs/{job}/results"),
    "api/v1/jobs/<str:key>/rollout": Door("rollout:read", "GET", "api/v1/jobs/{job}/rollout"),
    "api/v1/jobs/<str:key>/rollout/cancel": Door(
        "rollout:write", "POST", "api/v1/jobs/{job}/rollout/cancel"
    ),
    "api/v1/jobs/<str:key>/rollout/pause": Door(
        "rollout:write", "POST", "api/v1/jobs/{job}/rollout/pause"
    ),
    "api/v1/jobs/<str:key>/rollout/promote": Door(
        "rollout:write", "POST", "api/v1/jobs/{job}/rollout/promote"
    ),
    "api/v1/jobs/<str:key>/rollout/resume": Door(
        "rollout:write", "POST", "api/v1/jobs/{job}/rollout/resume"
    ),
    "api/v1/jobs/<str:key>/rollout/rollback": Door(
        "rollout:write", "POST", "api/v1/jobs/{job}/rollout/rollback"
    ),
    "api/v1/jobs/<str:key>/rollouts": Door("rollout:read", "GET", "api/v1/jobs/{job}/rollouts"),
    "api/v1/jobs/<str:key>/stop": Door("job:write", "POST", "api/v1/jobs/{job}/stop"),
    "api/v1/jobs/<str:key>/versions": Door("job:read", "GET", "api/v1/jobs/{job}/versions"),
    "api/v1/jobs/<str:key>/versions/<int:number>": Door(
        "job:read", "GET", "api/v1/jobs/{job}/versions/1"
    ),
    "api/v1/jobs/diff": Door(SIGNED_IN, "PUT"),
    "api/v1/jobs/schema": Door(SIGNED_IN),
    "api/v1/jobs/validate": Door(SIGNED_IN, "POST"),
    "executions/of-node/<uuid:pk>/panel/": Door(
        "agent:read", "GET", "executions/of-node/{node}/panel/"
    ),
    "jobs/": Door(SIGNED_IN),
    "jobs/<str:namespace>/<str:name>/": Door("job:read", "GET", "jobs/prod/{job_name}/"),
    "jobs/<str:namespace>/<str:name>/edit/": Door("job:write", "GET", "jobs/prod/{job_name}/edit/"),
    "jobs/<uuid:pk>/": Door("job:read", "GET", "jobs/{job}/"),
    "jobs/<uuid:pk>/controls/": Door("job:read", "GET", "jobs/{job}/controls/"),
    "jobs/<uuid:pk>/delete/": Door("job:write", "POST", "jobs/{job}/delete/"),
    "jobs/<uuid:pk>/file/": Door("job:read", "GET", "jobs/{job}/file/"),
    "jobs/<uuid:pk>/rerun/": Door("job:write", "POST", "jobs/{job}/rerun/"),
    "jobs/<uuid:pk>/stop/": Door("job:write", "POST", "jobs/{job}/stop/"),
    "jobs/discard-draft/": Door(SIGNED_IN, "POST"),
    "jobs/file/": Door(SIGNED_IN, "POST"),
    "jobs/new/": Door(SIGNED_IN),
    "jobs/plan/": Door(SIGNED_IN, "POST"),
    "jobs/stop-selected/": Door(SIGNED_IN, "POST"),
    "rollouts/of-job/<uuid:pk>/": Door("rollout:read", "GET", "rollouts/of-job/{job}/"),
    "rollouts/of-job/<uuid:pk>/panel/": Door("rollout:read", "GET", "rollouts/of-job/{job}/panel/"),
}
DOORS |= {f"api/v1/{pattern.pattern}": Door(OPERATION) for pattern in operation_patterns}
