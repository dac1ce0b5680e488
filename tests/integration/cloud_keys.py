"""Keys of a simulated cloud: a CA, a certificate for localhost, and the authorised key of a service account."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID


def make_keys(directory: Path) -> tuple[dict[str, str], tuple[bytes, bytes]]:
    """The service account's key as `yc iam key create` writes it, and the server's key and certificate.

    The CA's certificate is in tls/ca.crt of the directory.
    """
    (directory / "tls").mkdir(parents=True, exist_ok=True)
    authority, server = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = _name("simulated cloud CA")
    root = _certificate(issuer, issuer, authority.public_key(), ca=True).sign(authority, hashes.SHA256())
    (directory / "tls" / "ca.crt").write_bytes(root.public_bytes(serialization.Encoding.PEM))
    names = x509.SubjectAlternativeName(
        [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    )
    made = _certificate(_name("localhost"), issuer, server.public_key(), ca=False)
    certificate = made.add_extension(names, critical=False).sign(authority, hashes.SHA256())
    account = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = account.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    key = {
        "id": "key-1", "service_account_id": "sa-airflow", "key_algorithm": "RSA_2048",
        "public_key": public.decode(), "private_key": _private(account).decode(),
    }  # fmt: skip
    return key, (_private(server), certificate.public_bytes(serialization.Encoding.PEM))


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, *, ca: bool
) -> x509.CertificateBuilder:
    begin = datetime.now(UTC) - timedelta(hours=1)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=2))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )


def _private(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
