"""Certificates and keys of a deployment: TLS of the SuperLink, a key pair for each SuperNode."""

from __future__ import annotations

import datetime
import ipaddress
import os
from pathlib import Path


def make_credentials(folder: Path, num_nodes: int, host: str = "localhost", address: str = "127.0.0.1") -> None:
    """A certificate authority, a server certificate for ``host`` and ``address``, and a key pair for each node.

    Files: ``ca.pem``, ``server.pem``, ``server.key``, ``node-N`` (private, OpenSSH format), ``node-N.pub``. Private
    ones are readable for their owner alone.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    def certificate(subject: str, key, issuer: str, signer, *extensions) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder(
            name(issuer),
            name(subject),
            key.public_key(),
            x509.random_serial_number(),
            now - datetime.timedelta(minutes=5),
            now + datetime.timedelta(days=365),
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(signer, hashes.SHA256())

    def pem(key) -> bytes:
        return key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    authority, server = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    root = certificate(
        "airlam CA", authority, "airlam CA", authority, (x509.BasicConstraints(True, 0), True), (usage, True)
    )
    names = x509.SubjectAlternativeName([x509.DNSName(host), x509.IPAddress(ipaddress.ip_address(address))])
    leaf = certificate(
        host,
        server,
        "airlam CA",
        authority,
        (names, False),
        (x509.BasicConstraints(False, None), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), False),
    )
    encoding = serialization.Encoding.PEM
    _write(folder / "ca.pem", root.public_bytes(encoding))
    _write(folder / "server.pem", leaf.public_bytes(encoding))
    _write(folder / "server.key", pem(server), private=True)
    for number in range(num_nodes):
        make_node_key(folder / f"node-{number}")


def make_node_key(path: Path) -> Path:
    """A key pair of a SuperNode: ``path`` and ``path.pub``."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP384R1())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    _write(path, private, private=True)
    _write(path.with_name(f"{path.name}.pub"), public)
    return path


def public_pem(path: Path) -> str:
    """A public key file (OpenSSH) as PEM, which is how Flower's SuperLink knows a node's key."""
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_ssh_public_key(path.read_bytes())
    kind = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_bytes(serialization.Encoding.PEM, kind).decode()


def _write(path: Path, content: bytes, *, private: bool = False) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o644), "wb") as file:
        file.write(content)
