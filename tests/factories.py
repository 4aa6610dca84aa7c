"""One factory for each model that access tests need: only what a row must have."""

import functools

import factory
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Group, User

from access.models import CustomRole, Namespace, RoleBinding

# Hashing is slow on purpose, so that each password is hashed once in a run.
hashed = functools.cache(make_password)


class UserFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = User

    username = factory.Sequence("user-{}".format)
    password = factory.LazyFunction(lambda: hashed("correct horse"))


class GroupFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Group

    name = factory.Sequence("group-{}".format)


class NamespaceFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Namespace
        django_get_or_create = ("name",)

    name = factory.Sequence("space-{}".format)


class CustomRoleFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = CustomRole

    name = factory.Sequence("role-{}".format)
    permissions = ["job:read"]


class RoleBindingFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = RoleBinding

    user = factory.SubFactory(UserFactory)
    role = "read"
    namespace = factory.SubFactory(NamespaceFactory)
