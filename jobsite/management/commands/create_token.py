"""Makes an API token for a user and prints it, for scripts and the command line."""

from datetime import timedelta

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser

from access.problems import Refused
from access.services import Actor, issue_token


class Command(BaseCommand):
    """`manage.py create_token --user U --name N`: prints the token alone, and never again."""

    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        """Read the options."""
        parser.add_argument("--user", required=True, help="whose token it is")
        parser.add_argument("--name", required=True, help="what it is for")
        parser.add_argument("--ttl-days", type=int, default=90, help="days that it lives")
        parser.add_argument(
            "--scopes", default="", help="permissions it is cut down to, with commas between them"
        )

    def handle(self, *, user: str, name: str, ttl_days: int, scopes: str, **_: object) -> None:
        """Make the token."""
        owner = User.objects.filter(username=user, is_active=True).first()
        if owner is None:
            raise CommandError(f"There is no active user {user}.")
        if not 1 <= ttl_days <= 3650:
            raise CommandError("A token lives from 1 to 3650 days.")
        wanted = [scope.strip() for scope in scopes.split(",") if scope.strip()]
        try:
            _, text = issue_token(
                owner, name, timedelta(days=ttl_days), wanted, actor=Actor(name="create_token")
            )
        except Refused as refusal:
            raise CommandError(refusal.detail) from None
        self.stdout.write(text)
