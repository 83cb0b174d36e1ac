"""Makes an authority and a certificate of it for 127.0.0.1: certificate.py CA_FILE SERVER_FILE.

CA_FILE is the authority's certificate in PEM. SERVER_FILE is key and certificate as kinesis-local reads them.
"""
import datetime
import ipaddress
import json
import sys

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

NOW = datetime.datetime.now(datetime.timezone.utc)


def certificate(name, key, issuer_name, issuer_key, *extensions):
    builder = x509.CertificateBuilder(issuer_name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(NOW - datetime.timedelta(hours=1))
    builder = builder.not_valid_after(NOW + datetime.timedelta(days=2))
    for extension in extensions:
        builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
    return builder.sign(issuer_key, hashes.SHA256())


def named(name):
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def pem(made):
    return made.public_bytes(serialization.Encoding.PEM).decode()


ca_file, server_file = sys.argv[1:]
ca_name = named("interop authority")
ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
key_id = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())
ca = certificate(ca_name, ca_key, ca_name, ca_key, x509.BasicConstraints(ca=True, path_length=0), key_id)
leaf = certificate(
    named("interop endpoint"), key, ca_name, ca_key,
    x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
    x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(key_id),
)
key_pem = key.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
).decode()
with open(ca_file, "w", encoding="ascii") as file:
    file.write(pem(ca))
with open(server_file, "w", encoding="ascii") as file:
    json.dump({"server": {"key": key_pem, "cert": pem(leaf)}}, file)
