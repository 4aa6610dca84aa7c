"""Ed25519 in plain Python: RFC 8032, agreement with another library, and strictness."""

import base64
import stat

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from hypothesis import given
from hypothesis import strategies as st

from agent import keys

ORDER = 2**252 + 27742317777372353535851937790883648493

# RFC 8032, 7.1: seed, public key, message, signature.
RFC_VECTORS = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        (
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
            "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
        ),
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        (
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
            "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        ),
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        (
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
            "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
        ),
    ),
    (
        "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        (
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
            "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"
        ),
        (
            "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b589"
            "09351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704"
        ),
    ),
]

# The points of small order, in every encoding that has one (canonical or not).
SMALL_ORDER = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "0100000000000000000000000000000000000000000000000000000000000080",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
]
NOT_CANONICAL = [
    # y = p and y = p + 1, and no point at all.
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0200000000000000000000000000000000000000000000000000000000000000",
    "00" * 31,
]

seeds = st.binary(min_size=32, max_size=32)


@pytest.mark.parametrize(("seed", "public", "message", "signature"), RFC_VECTORS)
def test_the_vectors_of_the_rfc(seed, public, message, signature):
    seed, public, message, signature = map(bytes.fromhex, (seed, public, message, signature))
    assert keys.public_key(seed) == public
    assert keys.sign(seed, message) == signature
    assert keys.verify(public, signature, message)


@given(seeds, st.binary(max_size=200))
def test_it_agrees_with_another_library(seed, message):
    other = Ed25519PrivateKey.from_private_bytes(seed)
    assert keys.public_key(seed) == other.public_key().public_bytes_raw()
    signature = keys.sign(seed, message)
    assert signature == other.sign(message)
    assert keys.verify(keys.public_key(seed), signature, message)


@given(seeds, st.binary(max_size=50), st.integers(0, 95), st.integers(0, 7))
def test_a_flipped_bit_is_refused_as_another_library_refuses_it(seed, message, at, bit):
    blob = bytearray(keys.sign(seed, message) + keys.public_key(seed))
    blob[at] ^= 1 << bit
    signature, public = bytes(blob[:64]), bytes(blob[64:])
    assert not keys.verify(public, signature, message)
    with pytest.raises((InvalidSignature, ValueError)):
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)


@pytest.mark.parametrize("encoded", SMALL_ORDER + NOT_CANONICAL)
def test_keys_of_small_order_or_odd_encoding_are_refused(encoded):
    key = bytes.fromhex(encoded)
    assert not keys.acceptable_key(key)
    # With the identity as the key, this signature is valid for every message.
    assert not keys.verify(key, bytes.fromhex("01" + "00" * 63), b"any job at all")


def test_a_signature_with_s_not_reduced_is_refused():
    seed = bytes(range(32))
    signature = keys.sign(seed, b"job")
    number = int.from_bytes(signature[32:], "little") + ORDER
    malleable = signature[:32] + number.to_bytes(32, "little")
    assert keys.verify(keys.public_key(seed), signature, b"job")
    assert not keys.verify(keys.public_key(seed), malleable, b"job")


@pytest.mark.parametrize("length", [0, 63, 65])
def test_a_signature_of_the_wrong_length_is_refused(length):
    seed = bytes(32)
    assert not keys.verify(keys.public_key(seed), bytes(length), b"job")


def test_a_node_makes_its_key_once_and_only_its_owner_may_read_it(tmp_path):
    path = tmp_path / "node.key"
    first = keys.NodeKey.load(path)
    assert keys.NodeKey.load(path) == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    signature = base64.b64decode(first.sign(b"challenge"))
    assert keys.verify(base64.b64decode(first.public), signature, b"challenge")
