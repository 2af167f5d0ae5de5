"""Certificates for servers and clients of a test: signed by an authority of its own, valid for a day."""

import datetime as dt
import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

_DAY = dt.timedelta(days=1)
_USES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
    "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip


@dataclass(frozen=True)
class Issued:
    """A certificate and its key, in files of their own and in one file."""

    certificate: Path
    key: Path
    both: Path


class Authority:
    """Issues certificates into a folder.

    Parameters
    ----------
    folder : Path

    Attributes
    ----------
    bundle : Path
        The authority's own certificate: what a client trusts.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "authority.test")])
        own = self._build(self._name, self._key.public_key(), authority=True)
        self.bundle = folder / "authority.pem"
        self.bundle.write_bytes(own.public_bytes(Encoding.PEM))

    def issue(self, name: str, password: bytes = b"") -> Issued:
        """Issue a certificate for a name and 127.0.0.1; its key is locked if there is a password."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        certificate = self._build(subject, key.public_key(), authority=False).public_bytes(Encoding.PEM)
        lock: serialization.KeySerializationEncryption = NoEncryption()
        if password:
            lock = BestAvailableEncryption(password)
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock)
        issued = Issued(*(self._folder / f"{name}{end}.pem" for end in ("", "-key", "-both")))
        issued.certificate.write_bytes(certificate)
        issued.key.write_bytes(private)
        issued.both.write_bytes(private + certificate)
        return issued

    def server_context(self, *, client_wanted: bool = False) -> ssl.SSLContext:
        """Return the context of a server; one that wants clients' certificates takes this authority's only."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.issue("server").both)
        if client_wanted:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.bundle)
        return context

    def _build(self, subject: x509.Name, key: ec.EllipticCurvePublicKey, *, authority: bool) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        usage = dict.fromkeys(_USES, False) | {"key_cert_sign" if authority else "digital_signature": True}
        address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _DAY)
            .not_valid_after(now + _DAY)
            .add_extension(address, critical=False)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            # Without these, Python 3.13 takes no certificate for sound (VERIFY_X509_STRICT, RFC 5280 4.2.1).
            .add_extension(x509.KeyUsage(**usage), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
