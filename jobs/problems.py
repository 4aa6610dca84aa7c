"""What is wrong with a document: problems, refusals and the closed table of error codes."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing wrong (or doubtful) at one place; lines and columns count from 1."""

    path: str
    code: str
    message: str
    hint: str = ""
    line: int | None = None
    column: int | None = None


class SpecRefused(Exception):  # noqa: N818 - the name says what happened to the spec
    """A document was refused at one stage; it carries every problem of that stage (docs/semantics.md 4.8)."""

    def __init__(self, stage: str, problems: Iterable[Problem]) -> None:
        self.stage = stage
        self.problems = tuple(problems)
        self.code = self.problems[0].code
        self.status = CODES[self.code][0]
        super().__init__(self.problems[0].message)


def pointer(*parts: str | int) -> str:
    """Return the JSON pointer (RFC 6901) of a chain of keys and indexes."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


# code -> (HTTP status, title); docs/semantics.md 4.12 and X38: closed, one status each.
CODES: dict[str, tuple[int, str]] = {
    "malformed_body": (400, "The body cannot be read"),
    "invalid_limit": (400, "The limit is out of range"),
    "invalid_token": (400, "The page token is not valid"),
    "token_mismatch": (400, "The page token belongs to another query"),
    "unknown_parameter": (400, "The query has an unknown parameter"),
    "unauthenticated": (401, "Sign-in is needed"),
    "forbidden": (403, "The permission is missing"),
    "signature_invalid": (403, "A signature is not valid"),
    "signature_required": (403, "A signature is needed"),
    "signer_untrusted": (403, "A signer is not trusted"),
    "signature_replayed": (403, "A signature was used before"),
    "signature_expired": (403, "A signature is too old or from the future"),
    "not_found": (404, "Nothing is here"),
    "version_not_found": (404, "The version does not exist"),
    "method_not_allowed": (405, "The method is not allowed here"),
    "ambiguous_target": (409, "The target names several nodes"),
    "runner_unavailable": (409, "No matching node offers the runner"),
    "job_deleted": (409, "The job is deleted"),
    "job_stopped": (409, "The job is stopped"),
    "rollout_not_active": (409, "No rollout is active"),
    "rollout_paused": (409, "The rollout is paused"),
    "rollout_not_paused": (409, "The rollout is not paused"),
    "not_in_canary": (409, "The rollout is not in its canary phase"),
    "canary_not_stable": (409, "The canaries are not stable"),
    "canary_awaiting_promotion": (409, "The canaries await promotion"),
    "no_stable_version": (409, "There is no stable version"),
    "already_draining": (409, "The node is draining already"),
    "not_draining": (409, "The node is not draining"),
    "conflict": (409, "It conflicts with what exists"),
    "stale_revision": (412, "It was changed in the meantime"),
    "body_too_large": (413, "The body is too large"),
    "unsupported_media_type": (415, "The media type is not supported"),
    "invalid_spec": (422, "A required field is missing"),
    "unknown_field": (422, "The field is not known"),
    "legacy_field": (422, "The field belongs to an older schema"),
    "invalid_type": (422, "The value has the wrong type"),
    "invalid_value": (422, "The value is out of range or malformed"),
    "unknown_namespace": (422, "The namespace does not exist"),
    "unknown_job_type": (422, "The job type is not known"),
    "reserved_meta_key": (422, "The key is reserved for the system"),
    "signature_algorithm": (422, "The signature algorithm is not supported"),
    "signature_number_range": (422, "A signed number is too large"),
    "unknown_runner": (422, "The runner is not known"),
    "unknown_operation": (422, "The operation is not known"),
    "operation_type_mismatch": (422, "The operation does not fit the job type"),
    "empty_payload": (422, "The payload is empty"),
    "empty_config": (422, "The config is empty"),
    "invalid_timeout": (422, "The timeout is out of range"),
    "rollout_not_allowed": (422, "This job type has no rollout"),
    "canary_count_and_percent": (422, "Only one canary size may be given"),
    "health_check_required": (422, "A health check is needed"),
    "deadline_too_short": (422, "The deadline is too short"),
    "suspicious_duration": (422, "The duration looks like seconds"),
    "invalid_duration": (422, "The duration cannot be read"),
    "invalid_selector": (422, "The selector cannot be read"),
    "any_not_allowed": (422, "One arbitrary node is not allowed here"),
    "no_matching_node": (422, "No node matches"),
    "nodes_pending_enrolment": (422, "Every node still awaits enrolment"),
    "no_changes": (422, "Nothing would change"),
    "throttled": (429, "Too many requests"),
    "internal": (500, "The server failed"),
    "unavailable": (503, "The server is not ready"),
}

# Warnings never refuse anything, so they have titles alone.
WARNINGS: dict[str, str] = {
    "legacy_translated": "A field of an older schema was translated",
    "ignored_field": "A field has no effect",
    "plain_secret": "A secret is written in the open",
    "timeouts_exceed_total": "The total timeout ends first",
    "limit_always_fires": "The first failure halts the rollout",
}
