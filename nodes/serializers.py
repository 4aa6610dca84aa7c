"""The shapes of the nodes API, for its OpenAPI document; records.py fills them."""

from typing import Any

from rest_framework import serializers as s


class NodeSpec(s.Serializer[Any]):
    """What a node is."""

    name = s.CharField()
    hostname = s.CharField()
    os = s.CharField()
    arch = s.CharField()
    agent_version = s.CharField()
    labels = s.DictField(child=s.CharField())
    reported_labels = s.DictField(child=s.CharField())
    operator_labels = s.DictField(child=s.CharField())
    hardware_fingerprint = s.CharField()
    capabilities = s.DictField()
    max_jobs = s.IntegerField()


class NodeStatus(s.Serializer[Any]):
    """What was last seen of a node."""

    connection_state = s.CharField()
    connected_since = s.DateTimeField(allow_null=True)
    disconnected_since = s.DateTimeField(allow_null=True)
    last_heartbeat = s.DateTimeField(allow_null=True)
    message = s.CharField()
    revision = s.IntegerField()
    last_edge_seq_num = s.IntegerField()
    last_orchestrator_seq_num = s.IntegerField()
    resource_usage = s.DictField()
    scheduling_state = s.CharField()
    enrolment_state = s.CharField()
    badge = s.CharField()
    drain_evicts = s.BooleanField()
    active_executions = s.IntegerField()
    conditions = s.ListField(child=s.DictField())
    facts = s.DictField()


class NodeIdentity(s.Serializer[Any]):
    """How a node came to be trusted."""

    machine_id = s.CharField()
    fingerprint = s.CharField()
    enrolled_at = s.DateTimeField(allow_null=True)
    enrolled_by = s.CharField()
    enrollment_source_type = s.CharField()
    enrollment_identity_uri = s.CharField()
    credential_valid_until = s.DateTimeField(allow_null=True)
    enrollment_claims = s.DictField()


class Node(s.Serializer[Any]):
    """A machine that runs an agent."""

    id = s.UUIDField()
    namespace = s.CharField()
    spec = NodeSpec()
    status = NodeStatus()
    identity = NodeIdentity()


class NodePage(s.Serializer[Any]):
    """A page of nodes."""

    items = Node(many=True)
    next_token = s.CharField()


class LabelChange(s.Serializer[Any]):
    """Labels that an operator sets; null takes one away."""

    labels = s.DictField(child=s.CharField(allow_null=True))


class Drain(s.Serializer[Any]):
    """Whether long-running work is moved off as well."""

    evict = s.BooleanField(required=False)


class Accept(s.Serializer[Any]):
    """The fingerprint that was compared, if any."""

    fingerprint = s.CharField(required=False)


class NodeEvent(s.Serializer[Any]):
    """One thing that happened to a node."""

    seq_num = s.IntegerField()
    timestamp = s.DateTimeField()
    node_id = s.UUIDField()
    kind = s.CharField()
    message = s.CharField()
    details = s.DictField()


class NodeEventPage(s.Serializer[Any]):
    """A page of a node's history."""

    items = NodeEvent(many=True)
    next_token = s.CharField()


class NewEnrolmentToken(s.Serializer[Any]):
    """What a new enrolment token is to be."""

    namespace = s.CharField()
    labels = s.DictField(child=s.CharField(), required=False)
    auto_accept = s.BooleanField(required=False)
    max_uses = s.IntegerField(required=False)
    ttl = s.CharField(required=False, help_text="Seconds, or a text such as 1h or 30d.")


class EnrolmentToken(s.Serializer[Any]):
    """An enrolment token without its text."""

    id = s.IntegerField()
    namespace = s.CharField()
    labels = s.DictField(child=s.CharField())
    auto_accept = s.BooleanField()
    max_uses = s.IntegerField()
    uses = s.IntegerField()
    expires_at = s.DateTimeField()
    created_by = s.CharField()
    created_at = s.DateTimeField()


class IssuedEnrolmentToken(EnrolmentToken):
    """A token that was just made: the only time that its text is given."""

    token = s.CharField()


class EnrolmentTokenPage(s.Serializer[Any]):
    """A page of enrolment tokens."""

    items = EnrolmentToken(many=True)
    next_token = s.CharField()
