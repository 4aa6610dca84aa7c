"""What the database itself holds: the audit log only grows, and lost rights are noticed."""

from django.db import migrations

APPEND_ONLY = """
CREATE FUNCTION access_audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit entries are never changed or deleted'
        USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER access_audit_append_only BEFORE UPDATE OR DELETE ON access_auditentry
    FOR EACH ROW EXECUTE FUNCTION access_audit_is_append_only();
"""
NOT_APPEND_ONLY = """
DROP TRIGGER access_audit_append_only ON access_auditentry;
DROP FUNCTION access_audit_is_append_only();
"""

# One row, raised in the transaction that takes rights away: a sequence would be seen before its
# transaction is, so that an open page could be checked too early and then never again.
EPOCH = """
CREATE TABLE access_epoch (
    id boolean PRIMARY KEY DEFAULT true CHECK (id),
    value bigint NOT NULL
);
INSERT INTO access_epoch (value) VALUES (1);
CREATE FUNCTION access_raise_epoch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE access_epoch SET value = value + 1;
    RETURN NULL;
END $$;
CREATE TRIGGER access_epoch_binding AFTER INSERT OR UPDATE OR DELETE ON access_rolebinding
    FOR EACH STATEMENT EXECUTE FUNCTION access_raise_epoch();
CREATE TRIGGER access_epoch_role AFTER INSERT OR UPDATE OR DELETE ON access_customrole
    FOR EACH STATEMENT EXECUTE FUNCTION access_raise_epoch();
CREATE TRIGGER access_epoch_member AFTER INSERT OR UPDATE OR DELETE ON auth_user_groups
    FOR EACH STATEMENT EXECUTE FUNCTION access_raise_epoch();
CREATE TRIGGER access_epoch_account AFTER UPDATE ON auth_user
    FOR EACH ROW WHEN (
        OLD.is_active IS DISTINCT FROM NEW.is_active
        OR OLD.is_superuser IS DISTINCT FROM NEW.is_superuser
        OR OLD.password IS DISTINCT FROM NEW.password
    ) EXECUTE FUNCTION access_raise_epoch();
CREATE TRIGGER access_epoch_account_gone AFTER DELETE ON auth_user
    FOR EACH ROW EXECUTE FUNCTION access_raise_epoch();
CREATE TRIGGER access_epoch_session AFTER DELETE ON django_session
    FOR EACH ROW EXECUTE FUNCTION access_raise_epoch();
"""
NO_EPOCH = """
DROP TRIGGER access_epoch_session ON django_session;
DROP TRIGGER access_epoch_account_gone ON auth_user;
DROP TRIGGER access_epoch_account ON auth_user;
DROP TRIGGER access_epoch_member ON auth_user_groups;
DROP TRIGGER access_epoch_role ON access_customrole;
DROP TRIGGER access_epoch_binding ON access_rolebinding;
DROP FUNCTION access_raise_epoch();
DROP TABLE access_epoch;
"""


class Migration(migrations.Migration):
    dependencies = [
        ("access", "0001_initial"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("sessions", "0001_initial"),
    ]

    operations = [
        migrations.RunSQL(APPEND_ONLY, NOT_APPEND_ONLY),
        migrations.RunSQL(EPOCH, NO_EPOCH),
    ]
