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
}
