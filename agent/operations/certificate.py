"""Authorities that a node trusts, made from file objects (docs/semantics.md 2.7, domain certificate).

A file of ours, named jobsite-NAME.crt, lies where the machine's own tool looks for what its
administrator trusts; the tool then makes the bundle that programs read.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import os
import re
import ssl
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from agent.operations.base import (
    Answer,
    Handler,
    OperationError,
    Params,
    at,
    program,
    read,
    remove,
    run,
    write,
)
from agent.operations.objects import text_of_object

_NAME_RE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
_PEM_RE = re.compile(
    r"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----", re.ASCII
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """Where a machine keeps what it trusts: the folder of ours, its tool, what the tool makes."""

    folder: str
    tool: str
    bundle: str

    def path(self, name: str) -> str:
        """Return where a certificate of ours lies."""
        return f"{self.folder}/jobsite-{name}.crt"

    def trusted(self) -> frozenset[str]:
        """Return the fingerprints of all that programs trust now; others' bad files are skipped."""
        found = set()
        for pem in _PEM_RE.findall(read(self.bundle, "")):
            with contextlib.suppress(ValueError):
                found.add(_fingerprint(ssl.PEM_cert_to_DER_cert(pem)))
        return frozenset(found)


STORES = (
    Store(
        folder="/usr/local/share/ca-certificates",
        tool="update-ca-certificates",
        bundle="/etc/ssl/certs/ca-certificates.crt",
    ),
    Store(
        folder="/etc/pki/ca-trust/source/anchors",
        tool="update-ca-trust",
        bundle="/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    ),
)


def _store() -> Store:
    store = next((store for store in STORES if program(store.tool)), None)
    if store is None:
        tools = " nor ".join(store.tool for store in STORES)
        raise OperationError(f"this machine has neither {tools}")
    return store


def _name(params: Params) -> str:
    name = str(params["name"])
    if _NAME_RE.fullmatch(name) is None:
        message = f"{name!r} is no name: letters, digits, '_', '.' and '-', not '-' or '.' first"
        raise OperationError(message, "invalid_value")
    return name


# --- Certificates --------------------------------------------------------------------------------


def _ders(text: str) -> list[bytes]:
    """Return the certificates of a PEM text. Raises ValueError where one is not base64."""
    return [ssl.PEM_cert_to_DER_cert(pem) for pem in _PEM_RE.findall(text)]


def _fingerprint(der: bytes) -> str:
    return hashlib.sha256(der).hexdigest()


def _about(der: bytes) -> dict[str, str]:
    """Return fingerprint, subject and end of an authority's certificate.

    Raises ValueError if it is none.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=der)
    except ssl.SSLError as error:
        raise ValueError(f"it cannot be read ({error.reason or error})") from error
    known = context.get_ca_certs()
    if not known:
        raise ValueError("it is not that of an authority (basicConstraints CA:TRUE)")
    about: dict[str, Any] = known[0]
    subject = ", ".join(f"{key}={value}" for names in about["subject"] for key, value in names)
    seconds = ssl.cert_time_to_seconds(about["notAfter"])
    end = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return {
        "sha256": _fingerprint(der),
        "subject": subject,
        "not_after": end.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def _pem(params: Params) -> str:
    """Return the certificates of the object and nothing else of it. Raises OperationError."""
    text = text_of_object(params)
    place = f"object {str(params['object'])!r}"
    if "PRIVATE KEY-----" in text:
        message = f"{place} has a private key; upload the certificate alone"
        raise OperationError(message, "invalid_value")
    try:
        ders = _ders(text)
    except ValueError as error:
        raise OperationError(f"{place} is not PEM: {error}", "invalid_value") from error
    if not ders or text.count("-----BEGIN") != len(ders):
        message = f"{place} must be PEM: certificates between BEGIN CERTIFICATE and END CERTIFICATE"
        raise OperationError(message, "invalid_value")
    for number, der in enumerate(ders, start=1):
        try:
            _about(der)
        except ValueError as error:
            message = f"{place}, certificate {number}: {error}"
            raise OperationError(message, "invalid_value") from error
    return "".join(map(ssl.DER_cert_to_PEM_cert, ders))


def _told(store: Store, name: str, trusted: Collection[str]) -> dict[str, Any]:
    """Return what is known of a certificate of ours; `trusted` are the bundle's fingerprints.

    A file that somebody spoiled holds no certificates.
    """
    path = store.path(name)
    try:
        found = [_about(der) for der in _ders(read(path))]
    except ValueError:
        found = []
    is_trusted = bool(found) and all(about["sha256"] in trusted for about in found)
    return {"name": name, "path": path, "trusted": is_trusted, "certificates": found}


# --- Operations ----------------------------------------------------------------------------------


def _names(store: Store) -> Sequence[str]:
    files = at(store.folder).glob("jobsite-*.crt")
    return sorted(file.name.removeprefix("jobsite-").removesuffix(".crt") for file in files)


def _list(_: Params) -> Answer:
    store = _store()
    trusted = store.trusted()
    return Answer(data={"certificates": [_told(store, name, trusted) for name in _names(store)]})


def _create(params: Params) -> Answer:
    store, name, pem = _store(), _name(params), _pem(params)
    present = read(store.path(name), "")
    if present and present != pem:
        message = f"the certificate {name} is there and is another; update it instead"
        raise OperationError(message, "conflict")
    return _place(store, name, pem)


def _update(params: Params) -> Answer:
    store, name = _store(), _name(params)
    if not at(store.path(name)).exists():
        raise OperationError(f"there is no certificate {name} of Jobsite", "not_found")
    return _place(store, name, _pem(params))


def _place(store: Store, name: str, pem: str) -> Answer:
    """Make the machine trust it; the bundle is asked too, since a tool may have failed before."""
    changed = write(store.path(name), pem, 0o644)
    told = _told(store, name, store.trusted())
    if changed or not told["trusted"]:
        run([store.tool])
        before, told = told, _told(store, name, store.trusted())
        changed |= told != before
    return Answer(changed=changed, data={"certificate": told})


def _delete(params: Params) -> Answer:
    store, name = _store(), _name(params)
    path = store.path(name)
    pem = read(path, "")
    changed = remove(path)
    if changed:
        try:
            run([store.tool])
        except OperationError:
            # Without its file nobody would try again, and it would be trusted for ever.
            write(path, pem)
            raise
    return Answer(changed=changed, data={"name": name})


HANDLERS: dict[str, Handler] = {
    "certificate.ca.list": _list,
    "certificate.ca.create": _create,
    "certificate.ca.update": _update,
    "certificate.ca.delete": _delete,
}


def available() -> Collection[str]:
    """Return what this machine can do: it needs one of the tools, and root to change anything."""
    if not any(program(store.tool) for store in STORES):
        return []
    return list(HANDLERS) if os.geteuid() == 0 else ["certificate.ca.list"]
