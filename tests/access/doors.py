"""The table of every address and who may pass: a new address without a row fails the tests.

PUBLIC is for anybody, SIGNED_IN for any account, STAFF for the admin pages. A permission is asked
for in the namespace of the row that the address names: without it 403, outside the namespace 404.
"""

from dataclasses import dataclass

PUBLIC, SIGNED_IN, STAFF = "public", "signed in", "staff"


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
    "api/schema/": Door(SIGNED_IN),
    "agent/v1/enroll": Door(PUBLIC, "POST"),
    "install/agent.pyz": Door(PUBLIC),
    "livez": Door(PUBLIC),
    "readyz": Door(PUBLIC),
    "rollouts/": Door(SIGNED_IN),
    "executions/": Door(SIGNED_IN),
    "executions/<uuid:pk>/": Door("job:read", "GET", "executions/{execution}/"),
    "rollouts/<uuid:pk>/": Door("rollout:read", "GET", "rollouts/{rollout}/"),
    "rollouts/<uuid:pk>/controls/": Door("rollout:read", "GET", "rollouts/{rollout}/controls/"),
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
}
