"""The shapes of the files API, for its OpenAPI document."""

from typing import Any

from rest_framework import serializers as s

from jobs.objects import CONTENT_TYPES


class FileObject(s.Serializer[Any]):
    """A named file of a namespace, without its content."""

    id = s.UUIDField()
    namespace = s.CharField()
    name = s.CharField()
    content_type = s.ChoiceField(choices=CONTENT_TYPES)
    size = s.IntegerField()
    sha256 = s.CharField()
    created_by = s.CharField()
    created_at = s.DateTimeField()
    updated_by = s.CharField()
    updated_at = s.DateTimeField()


class FileObjectPage(s.Serializer[Any]):
    """A page of files."""

    items = FileObject(many=True)
    next_token = s.CharField()


class NewFileObject(s.Serializer[Any]):
    """A file as JSON: its content as text, or in base64."""

    name = s.CharField()
    namespace = s.CharField(required=False)
    content_type = s.ChoiceField(choices=CONTENT_TYPES, required=False)
    content = s.CharField(required=False)
    content_base64 = s.CharField(required=False)


class UploadedFile(s.Serializer[Any]):
    """A file as a form's upload."""

    name = s.CharField()
    namespace = s.CharField(required=False)
    content_type = s.ChoiceField(choices=CONTENT_TYPES, required=False)
    file = s.FileField()


class PutFileObject(s.Serializer[Any]):
    """What became of an upload."""

    object = FileObject()
    changed = s.BooleanField()
