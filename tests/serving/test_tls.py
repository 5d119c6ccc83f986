"""TLS and the token, end to end."""

from __future__ import annotations

import datetime
import ipaddress

import pytest
import torch

from airlam.serving import Client, ServingError
from airlam.serving.config import ServingConfig
from airlam.serving.listening import TOKEN
from airlam.serving.plain import PlainServer

SECRET = "the-token-of-this-test"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> dict[str, str]:
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    folder, key = tmp_path_factory.mktemp("tls"), ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), False)
        .add_extension(x509.BasicConstraints(True, None), True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "certificate.pem").write_bytes(made.public_bytes(pem))
    private = serialization.PrivateFormat.PKCS8
    (folder / "key.pem").write_bytes(key.private_bytes(pem, private, serialization.NoEncryption()))
    return {"certificate": str(folder / "certificate.pem"), "key": str(folder / "key.pem")}


def test_token_and_tls(certificate, monkeypatch):
    monkeypatch.setenv(TOKEN, SECRET)
    listen = {**certificate, "host": "0.0.0.0"}
    config = ServingConfig(predictors={"hold": {}}, classic="hold", listen=listen, warm={"slots": 0})
    h = torch.ones(16, 6, 1, 4, dtype=torch.complex64)
    with PlainServer(config, port=0) as server:
        options = {"model": "hold", "verify": certificate["certificate"], "discover": False, "patience_s": 0.2}
        address = f"https://127.0.0.1:{server.port}"
        with Client(address, token=SECRET, **options) as client:
            assert client.predict(h, 2).shape == (2, 6, 1, 4)
        with Client(address, token="another-token-of-this-test", **options) as client:
            with pytest.raises(ServingError, match="asks for a token") as error:
                client.predict(h, 2)
            assert error.value.status == 401 and SECRET not in str(error.value)
        with Client(address, token=SECRET, **{**options, "verify": True}) as client:
            with pytest.raises(ConnectionError, match="no answer"):  # a certificate that nobody signed
                client.predict(h, 2)
        with Client(address.replace("https", "http"), token=SECRET, **options) as client:
            with pytest.raises(ConnectionError, match="no answer"):
                client.predict(h, 2)
