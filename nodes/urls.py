"""The addresses of this app: pages, and REST under api/v1/."""

from django.urls import URLPattern, path

from nodes import api, views
from nodes.agent_api import EnrolView

app_name = "nodes"
urlpatterns: list[URLPattern] = [
    path("", views.node_list, name="list"),
    path("bulk/", views.bulk, name="bulk"),
    path("enrol/", views.enrol, name="enrol"),
    path("enrol/<int:pk>/revoke/", views.revoke_token, name="revoke-token"),
    path("<uuid:pk>/", views.node_detail, name="detail"),
    path("<uuid:pk>/labels/", views.set_labels, name="labels"),
    path("<uuid:pk>/controls/", views.node_controls, name="controls"),
    *(
        path(f"<uuid:pk>/{verb}/", views.act, {"verb": verb}, name=verb)
        for verb in ("cordon", "drain", "undrain", "accept", "reject", "revoke", "delete")
    ),
]
api_patterns: list[URLPattern] = [
    path("nodes", api.NodesView.as_view(), name="nodes"),
    path("nodes/pending", api.PendingNodesView.as_view(), name="nodes-pending"),
    path("nodes/<str:key>", api.NodeView.as_view(), name="node"),
    path("nodes/<str:key>/drain", api.NodeDrainView.as_view(), name="node-drain"),
    path("nodes/<str:key>/undrain", api.NodeUndrainView.as_view(), name="node-undrain"),
    path("nodes/<str:key>/accept", api.NodeAcceptView.as_view(), name="node-accept"),
    path("nodes/<str:key>/reject", api.NodeRejectView.as_view(), name="node-reject"),
    path("nodes/<str:key>/revoke", api.NodeRevokeView.as_view(), name="node-revoke"),
    path("nodes/<str:key>/history", api.NodeHistoryView.as_view(), name="node-history"),
    path("enrolment-tokens", api.EnrolmentTokensView.as_view(), name="enrolment-tokens"),
    path("enrolment-tokens/<int:pk>", api.EnrolmentTokenView.as_view(), name="enrolment-token"),
]
agent_patterns: list[URLPattern] = [path("enroll", EnrolView.as_view(), name="enroll")]
