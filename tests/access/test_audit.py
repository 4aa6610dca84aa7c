"""The audit log says who did what, and only ever grows."""

import pytest
from django.db import ProgrammingError, transaction

from access.models import AuditEntry
from access.services import Actor, grant_role, record_audit

pytestmark = pytest.mark.django_db


def make_entry():
    record_audit(Actor(name="otto"), "job.submit", "job", 7, "prod", details={"version": 2})
    return AuditEntry.objects.latest("id")


def test_an_entry_keeps_what_was_done():
    entry = make_entry()
    facts = (entry.actor, entry.action, entry.object_kind, entry.object_id, entry.namespace)
    assert facts == ("otto", "job.submit", "job", "7", "prod")
    assert (entry.outcome, entry.details) == ("done", {"version": 2})


@pytest.mark.parametrize("how", ["save", "update", "delete", "delete all"])
def test_entries_cannot_be_changed_or_deleted(how):
    entry = make_entry()
    entry.reason = "it was not me"
    ways = {
        "save": entry.save,
        "update": lambda: AuditEntry.objects.update(actor="vera"),
        "delete": entry.delete,
        "delete all": AuditEntry.objects.all().delete,
    }
    with pytest.raises(ProgrammingError, match="never changed"), transaction.atomic():
        ways[how]()
    assert AuditEntry.objects.get(pk=entry.pk).actor == "otto"


def test_overlong_texts_are_cut_not_refused():
    actor = Actor(name="n" * 500, token_name="t" * 500, request_id="r" * 500)
    record_audit(actor, "a" * 500, "k" * 500, "i" * 500, "s" * 500, reason="x" * 5000)
    assert len(AuditEntry.objects.latest("id").reason) == 1024


def test_roles_are_audited_with_who_gave_them(cast):
    grant_role(cast.nils, "read", "lab", actor=Actor(name="ada", source_ip="203.0.113.9"))
    entry = AuditEntry.objects.get(action="role.grant")
    assert (entry.actor, entry.object_id, entry.namespace) == ("ada", "nils", "lab")
    assert (entry.details, entry.source_ip) == ({"role": "read"}, "203.0.113.9")


def test_changes_in_the_admin_are_audited(page_as, cast):
    answer = page_as("ada").post(
        "/admin/access/namespace/add/", {"name": "new", "min_signatures": 1}
    )
    assert answer.status_code == 302
    entry = AuditEntry.objects.get(action="namespace.add")
    assert (entry.actor, entry.object_id) == ("ada", "new")


def test_the_admin_shows_entries_and_offers_no_change(page_as, cast):
    entry = make_entry()
    browser = page_as("ada")
    assert browser.get("/admin/access/auditentry/").status_code == 200
    assert browser.get(f"/admin/access/auditentry/{entry.pk}/change/").status_code == 200
    assert browser.post(f"/admin/access/auditentry/{entry.pk}/delete/").status_code == 403
