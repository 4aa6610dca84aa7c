"""What a machine may ask before it has a session: to join."""

from collections.abc import Mapping
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from access.problems import Refused
from agent.protocol import enrol_message
from nodes.enrolment import Newcomer, enrol_node
from nodes.keys import control_key, is_signed_by
from nodes.states import EnrolmentState

_TEXT_MAX = 253
_NONCE_MIN = 16
_REQUIRED = ("machine_id", "hostname", "public_key", "nonce", "signature")
_OPTIONAL = ("name", "token", "os", "arch", "agent_version", "hardware_fingerprint")
_MAPPINGS = ("labels", "capabilities")


class EnrolView(APIView):
    """A machine asks to join; it proves that it holds the key that it presents (docs/security.md)."""

    authentication_classes = ()
    permission_classes = (AllowAny,)

    @extend_schema(request=dict[str, Any], responses=dict[str, Any], tags=["agents"])
    def post(self, request: Request) -> Response:
        """Answer 200 with the node once it is accepted, 202 while it waits."""
        said = _read(request.data)
        message = enrol_message(said["machine_id"], said["public_key"], said["nonce"])
        if not is_signed_by(said["public_key"], said["signature"], message):
            raise Refused("signature_invalid", "The request is not signed by the key it presents.")
        node = enrol_node(said["token"], _newcomer(said))
        accepted = node.enrolment_state == EnrolmentState.ACCEPTED
        body = {
            "node_id": str(node.pk),
            "state": node.enrolment_state,
            "fingerprint": node.fingerprint,
            "control_public_key": control_key().public_key,
        }
        return Response(body, status=200 if accepted else 202)


def _newcomer(said: Mapping[str, Any]) -> Newcomer:
    names = ("machine_id", "public_key", "hostname", "name", "os", "arch", "agent_version",
             "hardware_fingerprint", *_MAPPINGS)  # fmt: skip
    return Newcomer(**{name: said[name] for name in names})


def _read(body: object) -> dict[str, Any]:
    """Return the members of a request to join; unknown ones are a newer agent's and left out.

    Raises Refused `invalid_spec` for one that is missing, `invalid_type`, `invalid_value`.
    """
    if not isinstance(body, dict):
        raise Refused("malformed_body", "The body is not an object.")
    said: dict[str, Any] = {name: _text(body, name) for name in (*_REQUIRED, *_OPTIONAL)}
    for name in _REQUIRED:
        if not said[name]:
            raise _refused("invalid_spec", name, "is missing")
    if len(said["nonce"]) < _NONCE_MIN:
        raise _refused("invalid_value", "nonce", f"has less than {_NONCE_MIN} characters")
    for name in _MAPPINGS:
        said[name] = body.get(name) or {}
        if not isinstance(said[name], dict):
            raise _refused("invalid_type", name, "is not an object")
    return said


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _refused("invalid_type", name, "is not a text")
    if len(value) > _TEXT_MAX or "\x00" in value or not value.isprintable():
        raise _refused("invalid_value", name, "is too long or not printable")
    return value


def _refused(code: str, name: str, words: str) -> Refused:
    message = f"{name} {words}"
    return Refused(code, message, errors=[{"path": f"/{name}", "code": code, "message": message}])
