"""The product's server with one more address: the list that Django REST framework alone would give."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "jobsite.settings")

from jobsite.asgi import application

__all__ = ["application"]

from django.conf import settings
from django.urls import include, path
from knox.auth import TokenAuthentication
from rest_framework import generics, pagination, permissions, serializers

from rollouts.models import Execution

settings.ROOT_URLCONF = "bench.plain"


class Row(serializers.ModelSerializer):
    """An execution with the members that our own answer has."""

    job_spec = serializers.JSONField(source="version.spec")
    node_name = serializers.CharField(source="node.name")

    class Meta:
        model = Execution
        exclude = ("evaluation",)


class Cursor(pagination.CursorPagination):
    """Pages of fifty, the newest first."""

    page_size = 50
    ordering = ("-created_at", "-id")


class Plain(generics.ListAPIView):
    """The list."""

    queryset = Execution.objects.select_related("version", "node").filter(namespace="prod")
    serializer_class = Row
    pagination_class = Cursor
    authentication_classes = (TokenAuthentication,)
    permission_classes = (permissions.IsAuthenticated,)


urlpatterns = [path("plain", Plain.as_view()), path("", include("jobsite.urls"))]
