"""REST for nodes and enrolment tokens: thin doors to services and queries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from access.authentication import actor_of
from access.bodies import changes_of, flag_of, labels_of, number_of, read_members, text_of, ttl_of
from access.problems import Refused
from access.queries import require
from access.rest import list_parameter, page_body, paginate, read_page, refuse_unknown
from nodes import records, serializers, services
from nodes.enrolment import TOKEN_TTL, TOKEN_TTL_MAX, TOKEN_USES_MAX, revoke_enrolment_token
from nodes.queries import (
    READ,
    WRITE,
    NodeFilter,
    enrolment_token_of,
    events_of,
    find_enrolment_token,
    find_node_for,
    nodes_for,
    tokens_seen_by,
    with_presence,
)
from nodes.states import EnrolmentState

if TYPE_CHECKING:
    from nodes.models import Node

_NAMESPACE = OpenApiParameter("namespace", str, description="Needed when a name is ambiguous.")
_REVISION = OpenApiParameter("If-Match", str, OpenApiParameter.HEADER)
_FILTERS = (
    "labels",
    "namespace",
    "connection_state",
    "scheduling_state",
    "enrolment_state",
    "badge",
    "name",
)


class NodesView(APIView):
    """Every node one may see."""

    @extend_schema(
        operation_id="nodes_list",
        parameters=[OpenApiParameter(name, str) for name in _FILTERS],
        responses=serializers.NodePage,
    )
    def get(self, request: Request) -> Response:
        params = request.query_params
        page = read_page(
            params, filters=_FILTERS, orders=("name", "created_at"), is_descending=False
        )
        wanted = NodeFilter(
            namespaces=list_parameter(params, "namespace"),
            labels=params.get("labels", ""),
            name=params.get("name", ""),
            badges=list_parameter(params, "badge"),
            connection_states=list_parameter(params, "connection_state"),
            scheduling_states=list_parameter(params, "scheduling_state"),
            enrolment_states=list_parameter(params, "enrolment_state"),
        )
        rows, token = paginate(with_presence(nodes_for(request.user, wanted)), page)
        return Response(page_body(records.node_records(rows), token))


class PendingNodesView(APIView):
    """The nodes that ask to join, longest waiting first."""

    @extend_schema(
        operation_id="nodes_pending",
        parameters=[OpenApiParameter("namespace", str)],
        responses=serializers.NodePage,
    )
    def get(self, request: Request) -> Response:
        params = request.query_params
        page = read_page(params, filters=("namespace",), is_descending=False)
        wanted = NodeFilter(
            namespaces=list_parameter(params, "namespace"),
            enrolment_states=(EnrolmentState.PENDING,),
        )
        rows, token = paginate(with_presence(nodes_for(request.user, wanted)), page)
        return Response(page_body(records.node_records(rows), token))


class NodeView(APIView):
    """One node, by id or name."""

    @extend_schema(operation_id="nodes_get", parameters=[_NAMESPACE], responses=serializers.Node)
    def get(self, request: Request, key: str) -> Response:
        return _answer(_node(request, key, READ))

    @extend_schema(
        operation_id="nodes_label",
        summary="Set or take away labels that operators set",
        parameters=[_NAMESPACE, _REVISION],
        request=serializers.LabelChange,
        responses=serializers.Node,
    )
    def patch(self, request: Request, key: str) -> Response:
        node = _node(request, key)
        changes = changes_of(read_members(request, ("labels",)), "labels")
        revision = _revision(request)
        return _answer(
            services.change_node_labels(node.pk, changes, actor_of(request), revision=revision)
        )

    @extend_schema(operation_id="nodes_delete", parameters=[_NAMESPACE], responses={204: None})
    def delete(self, request: Request, key: str) -> Response:
        services.delete_node(_node(request, key).pk, actor_of(request))
        return Response(status=204)


class NodeDrainView(APIView):
    """Gives a node no more work."""

    @extend_schema(
        operation_id="nodes_drain",
        parameters=[_NAMESPACE],
        request=serializers.Drain,
        responses=serializers.Node,
    )
    def post(self, request: Request, key: str) -> Response:
        node = _node(request, key)
        evict = flag_of(read_members(request, ("evict",)), "evict")
        return _answer(services.drain_node(node.pk, actor_of(request), evict=evict))


class NodeUndrainView(APIView):
    """Lets a draining or cordoned node take work again."""

    @extend_schema(
        operation_id="nodes_undrain",
        parameters=[_NAMESPACE],
        request=None,
        responses=serializers.Node,
    )
    def post(self, request: Request, key: str) -> Response:
        node = _node(request, key)
        read_members(request, ())
        return _answer(services.undrain_node(node.pk, actor_of(request)))


class NodeAcceptView(APIView):
    """Trusts a node that asks to join."""

    @extend_schema(
        operation_id="nodes_accept",
        parameters=[_NAMESPACE],
        request=serializers.Accept,
        responses=serializers.Node,
    )
    def post(self, request: Request, key: str) -> Response:
        node = _node(request, key)
        fingerprint = text_of(read_members(request, ("fingerprint",)), "fingerprint")
        return _answer(services.accept_node(node.pk, actor_of(request), fingerprint=fingerprint))


class NodeRejectView(APIView):
    """Turns a node that asks to join away."""

    @extend_schema(
        operation_id="nodes_reject",
        parameters=[_NAMESPACE],
        request=None,
        responses=serializers.Node,
    )
    def post(self, request: Request, key: str) -> Response:
        node = _node(request, key)
        read_members(request, ())
        return _answer(services.reject_node(node.pk, actor_of(request)))


class NodeRevokeView(APIView):
    """Takes a node's trust back."""

    @extend_schema(
        operation_id="nodes_revoke",
        parameters=[_NAMESPACE],
        request=None,
        responses=serializers.Node,
    )
    def post(self, request: Request, key: str) -> Response:
        node = _node(request, key)
        read_members(request, ())
        return _answer(services.revoke_node(node.pk, actor_of(request)))


class NodeHistoryView(APIView):
    """What happened to a node, newest first."""

    @extend_schema(
        operation_id="nodes_history",
        parameters=[_NAMESPACE],
        responses=serializers.NodeEventPage,
    )
    def get(self, request: Request, key: str) -> Response:
        page = read_page(request.query_params, filters=("namespace",), orders=("id",))
        node = find_node_for(request.user, key, READ, request.query_params.get("namespace"))
        rows, token = paginate(events_of(node), page)
        return Response(page_body([records.event_record(row) for row in rows], token))


class EnrolmentTokensView(APIView):
    """The tokens by which machines may ask to join."""

    @extend_schema(
        operation_id="enrolment_tokens_list",
        parameters=[OpenApiParameter("namespace", str)],
        responses=serializers.EnrolmentTokenPage,
    )
    def get(self, request: Request) -> Response:
        page = read_page(request.query_params, filters=("namespace",))
        tokens = tokens_seen_by(request.user)
        if names := list_parameter(request.query_params, "namespace"):
            tokens = tokens.filter(namespace_id__in=names)
        rows, token = paginate(tokens, page)
        return Response(page_body([records.token_record(row) for row in rows], token))

    @extend_schema(
        operation_id="enrolment_tokens_issue",
        request=serializers.NewEnrolmentToken,
        responses={201: serializers.IssuedEnrolmentToken},
    )
    def post(self, request: Request) -> Response:
        refuse_unknown(request.query_params, ())
        known = ("namespace", "labels", "auto_accept", "max_uses", "ttl")
        body = read_members(request, known)
        namespace = text_of(body, "namespace", default="default")
        require(request.user, WRITE, namespace)
        text = services.issue_enrolment_token(
            namespace,
            labels=labels_of(body, "labels"),
            auto_accept=flag_of(body, "auto_accept"),
            max_uses=number_of(body, "max_uses", 1, TOKEN_USES_MAX),
            ttl=ttl_of(body, "ttl", TOKEN_TTL, TOKEN_TTL_MAX),
            actor=actor_of(request),
        )
        record = records.token_record(enrolment_token_of(text))
        return Response(record | {"token": text}, status=201)


class EnrolmentTokenView(APIView):
    """One enrolment token."""

    @extend_schema(operation_id="enrolment_tokens_revoke", responses={204: None})
    def delete(self, request: Request, pk: int) -> Response:
        refuse_unknown(request.query_params, ())
        token = find_enrolment_token(request.user, pk, WRITE)
        revoke_enrolment_token(token.pk, actor_of(request))
        return Response(status=204)


def _node(request: Request, key: str, permission: str = WRITE) -> Node:
    refuse_unknown(request.query_params, ("namespace",))
    return find_node_for(request.user, key, permission, request.query_params.get("namespace"))


def _answer(node: Node) -> Response:
    record: dict[str, Any] = records.node_records([node])[0]
    return Response(record, headers={"ETag": f'"{node.revision}"'})


def _revision(request: Request) -> int | None:
    header = request.headers.get("If-Match", "").strip().removeprefix("W/").strip('"')
    if not header or header == "*":
        return None
    if not (header.isascii() and header.isdigit() and len(header) < 19):
        raise Refused("invalid_value", "If-Match is the ETag of the node: its revision.")
    return int(header)
