"""Makes a fresh installation usable: a namespace, an admin, a sign-in link, an enrolment token."""

import json

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandParser
from django.db import transaction
from django.urls import reverse

from access.models import Namespace
from access.services import make_sign_in_link
from nodes.enrolment import issue_enrolment_token

NAMESPACE = "default"
ADMIN = "admin"
# Enough for the agents that a fresh machine starts beside the control plane.
ENROL_USES = 1000


class Command(BaseCommand):
    """`manage.py bootstrap [--json]`: may be run again; each run makes a new link and token."""

    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        """Read the options."""
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    @transaction.atomic
    def handle(self, **options: object) -> None:
        """Make what is missing, and print how to come in."""
        Namespace.objects.get_or_create(name=NAMESPACE)
        path = reverse("access:once", args=[make_sign_in_link(_admin())])
        token = issue_enrolment_token(
            NAMESPACE, auto_accept=True, max_uses=ENROL_USES, actor_name="bootstrap"
        )
        if options["json"]:
            facts = {"user": ADMIN, "sign_in_url_path": path, "enrol_token": token}
            self.stdout.write(json.dumps(facts))
            return
        self.stdout.write(f"Sign in as {ADMIN} (once, within a day): {path}")
        self.stdout.write(f"Nodes join with this token (within the hour): {token}")


def _admin() -> User:
    """Return the admin; a new one has no password until somebody came in by the link."""
    user = User.objects.filter(username=ADMIN).first()
    return user or User.objects.create_superuser(ADMIN)
