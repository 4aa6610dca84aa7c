"""Signatures: the signed bytes, which entries hold, and what refuses first (docs/semantics.md 3.4, X36)."""

import base64
import hashlib
from datetime import UTC, datetime, timedelta

import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from jobs.problems import SpecRefused
from jobs.signatures import (
    SignaturePolicy,
    TrustedSigner,
    check_signatures,
    key_fingerprint,
    parse_public_key,
    signed_message,
)

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(32))
OTHER_PUBLIC = OTHER.public_key().public_bytes_raw()
NONCE = "00112233445566778899aabbccddeeff"
SIGNED_AT = "2026-01-15T10:30:00Z"
NOW = datetime(2026, 1, 15, 10, 30, tzinfo=UTC)
SPEC = {
    "namespace": "default",
    "name": "hello",
    "type": "script",
    "config": {"runner": "shell", "payload": "echo hello\n", "env": {"B": "2", "A": "1"}},
    "selector": {"target": "_any"},
    "timeouts": {"execution_timeout": 60},
    "restart_policy": "never",
}
TRUST = SignaturePolicy(signers=(TrustedSigner(public_key=PUBLIC),))
ORDER = 2**252 + 27742317777372353535851937790883648493


def b64(raw):
    return base64.b64encode(raw).decode()


def entry(key=KEY, spec=SPEC, nonce=NONCE, signed_at=SIGNED_AT, **members):
    signature = key.sign(signed_message(spec, nonce, signed_at))
    return {
        "algorithm": "ed25519",
        "public_key": "ed25519:" + b64(key.public_key().public_bytes_raw()),
        "signature": b64(signature),
        "nonce": nonce,
        "signed_at": signed_at,
    } | members


def check(*entries, policy=TRUST, now=NOW, used=(), spec=SPEC):
    signed = spec | {"signatures": list(entries)}
    return check_signatures(signed, policy, now=now, is_used=lambda k, n: (k, n) in used)


def refused(*entries, **options):
    with pytest.raises(SpecRefused) as caught:
        check(*entries, **options)
    assert caught.value.stage == "signatures"
    return caught.value


def test_the_message_of_the_test_vector_comes_out_byte_for_byte():
    message = signed_message(SPEC, NONCE, SIGNED_AT)
    assert message.startswith(b"fleetjob.sig.v1\n{")
    assert (len(message), len(message.partition(b"\n")[2])) == (321, 305)
    digest = "6026d0666bd5c1fcc733d67384753db1518a2a0da730b6e67fe54eb542ed96bf"
    assert hashlib.sha256(message).hexdigest() == digest
    assert b64(KEY.sign(message)) == (
        "codUkN8l4jngyRbPdIr8B712N26i/6a2+fxfQEIxmTwRfbbGF1nRvJsHD3jpaS4gbxA/ZVOR5duUgDe5NH5MCA=="
    )


def test_the_key_of_the_test_vector_has_its_fingerprint():
    assert b64(PUBLIC) == "A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="
    assert key_fingerprint(PUBLIC) == (
        "sha256:56475aa75463474c0285df5dbf2bcab73da651358839e9b77481b2eab107708c"
    )


def test_numbers_and_keys_are_canonical_by_the_standard():
    assert rfc8785.dumps([1e21, 0.1, 1.0, -0.0, 100]) == b"[1e+21,0.1,1,0,100]"
    assert rfc8785.dumps({"a": 1, "A": 2}) == b'{"A":2,"a":1}'


def test_absent_members_are_signed_as_null_and_others_not_at_all():
    bare = signed_message({"name": "a"}, NONCE, SIGNED_AT)
    assert b'"namespace":null' in bare
    assert bare == signed_message({"name": "a", "priority": 1, "rollout": {}}, NONCE, SIGNED_AT)


def test_a_good_signature_holds():
    (verified,) = check(entry())
    assert (verified.public_key, verified.nonce, verified.signed_at) == (PUBLIC, NONCE, NOW)
    assert verified.fingerprint == key_fingerprint(PUBLIC)


def test_a_prefix_a_fraction_and_an_offset_are_accepted():
    assert check(entry(signature="sig:" + entry()["signature"]))
    assert check(entry(signed_at="2026-01-15T10:30:00.25+00:00"))


def test_no_signatures_are_needed_unless_the_namespace_asks():
    assert check() == ()
    assert check_signatures(SPEC, TRUST, now=NOW, is_used=lambda *_: False) == ()


def test_the_same_key_counts_once():
    twice = entry(), entry(), entry(nonce="f" * 16)
    assert len(check(*twice)) == 1
    policy = SignaturePolicy(require_signatures=True, min_signatures=2, signers=TRUST.signers)
    assert refused(*twice, policy=policy).code == "signature_required"


def test_enough_signers_satisfy_the_namespace():
    signers = (TrustedSigner(public_key=PUBLIC), TrustedSigner(public_key=OTHER_PUBLIC))
    policy = SignaturePolicy(require_signatures=True, min_signatures=2, signers=signers)
    assert len(check(entry(), entry(OTHER), policy=policy)) == 2
    refusal = refused(policy=policy)
    assert (refusal.status, refusal.code) == (403, "signature_required")
    assert refusal.problems[0].path == "/signatures"


BAD_FORMS = [
    ("public_key", b64(PUBLIC)),
    ("public_key", "ed25519:" + b64(PUBLIC[:31])),
    ("public_key", "ed25519:" + b64(PUBLIC).rstrip("=")),
    ("public_key", "ed25519:" + b64(PUBLIC) + "\n"),
    ("public_key", "ed25519:!!"),
    ("public_key", 3),
    ("signature", "AAAA"),
    ("signature", "A" * 85 + "B=="),
    ("nonce", "0" * 15),
    ("nonce", "0" * 65),
    ("nonce", "x" * 16),
    ("nonce", None),
    ("signed_at", "2026-01-15T10:30:00"),
    ("signed_at", "2026-01-15T11:30:00+01:00"),
    ("signed_at", "2026-13-15T10:30:00Z"),
    ("signed_at", "now"),
]


@pytest.mark.parametrize(("member", "value"), BAD_FORMS)
def test_a_malformed_member_makes_the_signature_invalid(member, value):
    refusal = refused(entry(**{member: value}))
    assert (refusal.status, refusal.code) == (403, "signature_invalid")
    assert refusal.problems[0].path == f"/signatures/0/{member}"


FIELD = 2**255 - 19
SMALL = [
    (0).to_bytes(32, "little"),
    (2**255).to_bytes(32, "little"),
    (1).to_bytes(32, "little"),
    (FIELD - 1).to_bytes(32, "little"),
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85"),
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa"),
]
NOT_CANONICAL = [FIELD.to_bytes(32, "little"), (FIELD + 1).to_bytes(32, "little"), b"\xff" * 32]


@pytest.mark.parametrize("raw", SMALL + NOT_CANONICAL)
def test_an_unsafe_key_is_refused(raw):
    with pytest.raises(ValueError, match="public key"):
        parse_public_key("ed25519:" + b64(raw))
    forged = entry(public_key="ed25519:" + b64(raw), signature=b64(SMALL[2] + bytes(32)))
    policy = SignaturePolicy(signers=(TrustedSigner(public_key=raw),))
    assert refused(forged, policy=policy).code == "signature_invalid"


def test_a_signature_with_a_second_spelling_of_s_is_refused():
    raw = base64.b64decode(entry()["signature"])
    s = int.from_bytes(raw[32:], "little") + ORDER
    assert refused(entry(signature=b64(raw[:32] + s.to_bytes(32, "little")))).problems[0].path == (
        "/signatures/0/signature"
    )


@pytest.mark.parametrize("member", ["namespace", "name", "type", "config", "selector", "timeouts"])
def test_a_change_of_a_signed_member_breaks_the_signature(member):
    assert refused(entry(), spec=SPEC | {member: "other"}).code == "signature_invalid"


def test_numbers_that_cannot_be_signed_are_refused():
    spec = SPEC | {"config": {"n": 2**53}}
    refusal = refused(entry(), spec=spec)
    assert (refusal.status, refusal.code) == (422, "signature_number_range")


@pytest.mark.parametrize(("offset", "holds"), [(0, True), (300, True), (-300, True)])
def test_the_window_includes_both_ends(offset, holds):
    assert bool(check(entry(), now=NOW + timedelta(seconds=offset))) is holds


@pytest.mark.parametrize("offset", [300.001, -300.001])
def test_outside_the_window_a_signature_is_expired(offset):
    refusal = refused(entry(), now=NOW + timedelta(seconds=offset))
    assert (refusal.status, refusal.code) == (403, "signature_expired")


def test_a_used_nonce_is_a_replay_in_either_case():
    used = {(PUBLIC, NONCE)}
    assert refused(entry(), used=used).code == "signature_replayed"
    assert refused(entry(nonce=NONCE.upper()), used=used).code == "signature_replayed"
    assert check(entry(), used={(OTHER_PUBLIC, NONCE)})


def test_any_untrusted_signer_refuses():
    refusal = refused(entry(), entry(OTHER))
    assert (refusal.status, refusal.code) == (403, "signer_untrusted")
    assert refusal.problems[0].path == "/signatures/1/public_key"


@pytest.mark.parametrize(
    ("members", "trusted"),
    [
        ({"types": frozenset({"script"})}, True),
        ({"types": frozenset({"pipeline"})}, False),
        ({"runners": frozenset({"shell"})}, True),
        ({"runners": frozenset({"python"})}, False),
        ({"retired_at": NOW - timedelta(hours=24)}, True),
        ({"retired_at": NOW - timedelta(hours=24, seconds=1)}, False),
    ],
)
def test_a_signer_may_be_limited_or_retired(members, trusted):
    signer = TrustedSigner(public_key=PUBLIC, **members)
    policy = SignaturePolicy(signers=(signer,))
    if trusted:
        assert check(entry(), policy=policy)
    else:
        assert refused(entry(), policy=policy).code == "signer_untrusted"


def test_a_limit_on_runners_leaves_other_types_alone():
    spec = SPEC | {"type": "pipeline", "config": None}
    signer = TrustedSigner(public_key=PUBLIC, runners=frozenset({"shell"}))
    assert check(entry(spec=spec), spec=spec, policy=SignaturePolicy(signers=(signer,)))


def test_refusals_come_in_their_order():
    late = NOW + timedelta(hours=1)
    used = {(PUBLIC, NONCE)}
    nobody = SignaturePolicy(require_signatures=True, min_signatures=3)
    big = SPEC | {"config": {"n": 2**53}}
    options = {"policy": nobody, "used": used, "now": late}
    broken = entry(signature=b64(bytes(64)))
    first = entry(algorithm="secp256k1", nonce="")
    assert refused(first, spec=big, **options).code == "signature_algorithm"
    assert (
        refused(entry(nonce=NONCE, signature="x"), spec=big, **options).code == "signature_invalid"
    )
    assert refused(broken, spec=big, **options).code == "signature_number_range"
    assert refused(broken, **options).code == "signature_invalid"
    assert refused(entry(), **options).code == "signature_expired"
    assert refused(entry(), policy=nobody, used=used).code == "signature_replayed"
    assert refused(entry(), policy=nobody).code == "signer_untrusted"


@pytest.mark.parametrize("algorithm", ["secp256k1", "ED25519", "", None])
def test_another_algorithm_is_not_supported(algorithm):
    refusal = refused(entry(algorithm=algorithm))
    assert (refusal.status, refusal.code) == (422, "signature_algorithm")


def test_an_entry_that_is_no_mapping_is_refused():
    assert refused("text").code == "signature_algorithm"


def test_every_problem_of_a_check_is_reported():
    problems = refused(entry(nonce="x"), entry(OTHER, signature="x")).problems
    assert [problem.path for problem in problems] == [
        "/signatures/0/nonce",
        "/signatures/1/signature",
    ]
