"""Authorities of a node: the distribution's own tool works in a folder that looks like a machine."""

import datetime
import hashlib
import shutil
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID

from agent.operations import certificate
from agent.operations.base import OperationError

DEBIANS_TOOL = shutil.which("update-ca-certificates", path="/usr/sbin")
LOCAL = "usr/local/share/ca-certificates"
BUNDLE = "etc/ssl/certs/ca-certificates.crt"
ANCHORS = "etc/pki/ca-trust/source/anchors"
REDIRECTED = """\
#!/bin/sh
echo run >> {root}/runs
exec {tool} --certsconf {root}/etc/ca-certificates.conf --certsdir {root}/usr/share/ca-certificates \
 --localcertsdir {root}/{local} --etccertsdir {root}/etc/ssl/certs --hooksdir {root}/none
"""
# p11-kit writes its own comments between the certificates.
TRUST = """\
#!/bin/sh
cd {root}/{anchors} || exit 1
for file in *.crt; do [ -f "$file" ] && echo "# $file" && cat "$file"; done > {root}/bundle
mv {root}/bundle {root}/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem
"""
BROKEN = "#!/bin/sh\necho 'no space left' >&2\nexit 3\n"


def made(name, *, is_authority=True):
    """Return the PEM of a certificate that signs itself, and its private key's."""
    key = Ed25519PrivateKey.generate()
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Example"),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC))
        .not_valid_after(datetime.datetime(2051, 2, 3, 4, 5, 6, tzinfo=datetime.UTC))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .sign(key, None)
    )
    pem = built.public_bytes(serialization.Encoding.PEM).decode()
    assert built.fingerprint(hashes.SHA256()).hex() == fingerprint(pem)
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return pem, secret.decode()


def fingerprint(pem):
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()


@pytest.fixture(scope="module")
def root_ca():
    return made("Root 1")[0]


@pytest.fixture(scope="module")
def other_ca():
    return made("Root 2")[0]


def tool(folder, name, text):
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def bin_folder(tmp_path, monkeypatch):
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setattr("agent.operations.base.PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr("agent.operations.base.ROOT", tmp_path)
    return folder


@pytest.fixture
def debian(tmp_path, bin_folder):
    """A machine like Debian, with one authority of the distribution."""
    if DEBIANS_TOOL is None:
        pytest.skip("needs update-ca-certificates")
    for folder in (LOCAL, "usr/share/ca-certificates", "etc/ssl/certs"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "usr/share/ca-certificates/given.crt").write_text(made("Given")[0])
    (tmp_path / "etc/ca-certificates.conf").write_text("given.crt\n")
    text = REDIRECTED.format(root=tmp_path, tool=DEBIANS_TOOL, local=LOCAL)
    tool(bin_folder, "update-ca-certificates", text)
    return tmp_path


def do(operation, /, **params):
    return certificate.HANDLERS[f"certificate.ca.{operation}"](params)


def refused(code, operation, /, **params):
    with pytest.raises(OperationError) as caught:
        do(operation, **params)
    assert caught.value.code == code
    return str(caught.value)


def runs(machine):
    return len((machine / "runs").read_text().splitlines())


def test_a_certificate_is_trusted_after_it_was_made(debian, root_ca):
    told = do("create", name="corp", object="root.pem", content=root_ca)
    assert told.changed is True
    assert told.data["certificate"] == {
        "name": "corp",
        "path": f"/{LOCAL}/jobsite-corp.crt",
        "trusted": True,
        "certificates": [
            {
                "sha256": fingerprint(root_ca),
                "subject": "organizationName=Example, commonName=Root 1",
                "not_after": "2051-02-03T04:05:06Z",
            }
        ],
    }
    assert root_ca in (debian / BUNDLE).read_text()


def test_the_same_certificate_changes_nothing_and_runs_nothing(debian, root_ca):
    do("create", name="corp", object="root.pem", content=root_ca)
    for operation in ("create", "update"):
        again = do(operation, name="corp", object="root.pem", content=f"a note\n\n{root_ca}")
        assert again.changed is False
    assert runs(debian) == 1


def test_another_certificate_is_a_conflict_and_an_update(debian, root_ca, other_ca):
    do("create", name="corp", object="root.pem", content=root_ca)
    refused("conflict", "create", name="corp", object="new.pem", content=other_ca)
    assert do("update", name="corp", object="new.pem", content=other_ca).changed is True
    bundle = (debian / BUNDLE).read_text()
    assert other_ca in bundle
    assert root_ca not in bundle


def test_a_certificate_is_removed_once(debian, root_ca):
    do("create", name="corp", object="root.pem", content=root_ca)
    assert do("delete", name="corp").changed is True
    assert root_ca not in (debian / BUNDLE).read_text()
    assert do("delete", name="corp").changed is False
    refused("not_found", "update", name="corp", object="root.pem", content=root_ca)


def test_only_ours_are_told_sorted(debian, root_ca, other_ca):
    (debian / LOCAL / "admin.crt").write_text(root_ca)
    do("create", name="b", object="two.pem", content=root_ca + other_ca)
    do("create", name="a", object="root.pem", content=root_ca)
    (debian / LOCAL / "jobsite-c.crt").write_text("spoiled")
    told = do("list")
    assert told.changed is None
    assert [(c["name"], c["trusted"]) for c in told.data["certificates"]] == [
        ("a", True),
        ("b", True),
        ("c", False),
    ]
    assert [c["sha256"] for c in told.data["certificates"][1]["certificates"]] == [
        fingerprint(root_ca),
        fingerprint(other_ca),
    ]


def test_what_a_broken_tool_left_undone_is_done_by_the_next_attempt(debian, bin_folder, root_ca):
    mended = (bin_folder / "update-ca-certificates").read_text()
    wanted = {"name": "corp", "object": "root.pem", "content": root_ca}
    tool(bin_folder, "update-ca-certificates", BROKEN)
    assert "no space left" in refused("operation_failed", "create", **wanted)
    assert do("list").data["certificates"][0]["trusted"] is False
    tool(bin_folder, "update-ca-certificates", mended)
    assert do("create", **wanted).changed is True
    assert do("create", **wanted).changed is False
    tool(bin_folder, "update-ca-certificates", BROKEN)
    refused("operation_failed", "delete", name="corp")
    tool(bin_folder, "update-ca-certificates", mended)
    assert do("delete", name="corp").changed is True
    assert root_ca not in (debian / BUNDLE).read_text()


def test_what_is_no_certificate_of_an_authority_is_refused(debian, root_ca):
    leaf, secret = made("leaf", is_authority=False)
    garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    wrong = {
        "": "must be PEM",
        "hello": "must be PEM",
        root_ca.replace("CERTIFICATE", "TRUSTED CERTIFICATE"): "must be PEM",
        root_ca[:-30]: "must be PEM",
        garbage: "certificate 1: it cannot be read",
        root_ca + leaf: "certificate 2: it is not that of an authority",
        root_ca + secret: "private key",
    }
    for content, words in wrong.items():
        message = refused("invalid_value", "create", name="x", object="x.pem", content=content)
        assert words in message
        assert "x.pem" in message
    assert list((debian / LOCAL).iterdir()) == []


def test_an_object_that_is_not_there_is_named(debian):
    assert "'x.pem'" in refused("not_found", "create", name="x", object="x.pem")


@pytest.mark.parametrize("name", ["../x", "-rf", "a/b", "", ".hidden", "a b", "a\n"])
@pytest.mark.parametrize("operation", ["create", "update", "delete"])
def test_a_name_is_never_a_path_or_an_option(debian, operation, name, root_ca):
    refused("invalid_value", operation, name=name, object="x", content=root_ca)


def test_a_machine_with_update_ca_trust_keeps_it_where_that_looks(tmp_path, bin_folder, root_ca):
    (tmp_path / "etc/pki/ca-trust/extracted/pem").mkdir(parents=True)
    tool(bin_folder, "update-ca-trust", TRUST.format(root=tmp_path, anchors=ANCHORS))
    wanted = {"name": "corp", "object": "root.pem", "content": root_ca}
    assert [do("create", **wanted).changed for _ in range(2)] == [True, False]
    assert (tmp_path / ANCHORS / "jobsite-corp.crt").read_text() == root_ca
    assert do("list").data["certificates"][0]["trusted"] is True
    assert do("delete", name="corp").changed is True


def test_a_machine_without_a_tool_offers_nothing(tmp_path, bin_folder, monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("agent.operations.base.PATH", str(bin_folder))
    assert list(certificate.available()) == []
    assert "update-ca-trust" in refused("operation_failed", "list")
    tool(bin_folder, "update-ca-trust", TRUST)
    assert set(certificate.available()) == set(certificate.HANDLERS)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert list(certificate.available()) == ["certificate.ca.list"]
