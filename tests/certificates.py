"""Certificates for brokers and clients, made with openssl; and a password file."""

import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
_CONFIG = """
[ca]
default_ca = here
[here]
database = {folder}/{name}.index
new_certs_dir = {folder}
rand_serial = yes
default_md = sha256
policy = any
x509_extensions = leaf
[any]
commonName = supplied
[leaf]
subjectAltName = DNS:{host}
basicConstraints = CA:FALSE
"""


def openssl(*args: object) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed (apt install openssl)")
    subprocess.run(["openssl", *map(str, args)], check=True, capture_output=True)


class Authority:
    """Signs certificates; its own is `pem`."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self.pem, self._key = folder / f"{name}.pem", folder / f"{name}.key"
        openssl(
            *("req", "-x509", *_NEW_KEY, "-nodes", "-keyout", self._key, "-out", self.pem),
            *("-subj", f"/CN={name}", "-days", 2),
        )

    def sign(self, name: str, host: str, expired: bool = False) -> tuple[Path, Path]:
        """A certificate for `host`, and its key."""
        pem, key, request, config = (self._folder / f"{name}.{kind}" for kind in ("pem", "key", "csr", "conf"))
        openssl("req", "-new", *_NEW_KEY, "-nodes", "-keyout", key, "-out", request, "-subj", f"/CN={host}")
        (self._folder / f"{name}.index").write_text("")
        config.write_text(_CONFIG.format(folder=self._folder, name=name, host=host))
        since = datetime.now(UTC) - timedelta(days=9 if expired else 1)
        # `openssl ca` takes dates in all versions of openssl; other ways to sign do not.
        openssl(
            *("ca", "-batch", "-notext", "-config", config, "-cert", self.pem, "-keyfile", self._key),
            *("-startdate", f"{since:%Y%m%d%H%M%SZ}", "-enddate", f"{since + timedelta(days=3):%Y%m%d%H%M%SZ}"),
            *("-in", request, "-out", pem),
        )
        return pem, key


def self_signed(folder: Path, host: str) -> tuple[Path, Path]:
    pem, key = folder / "self-signed.pem", folder / "self-signed.key"
    openssl(
        *("req", "-x509", *_NEW_KEY, "-nodes", "-keyout", key, "-out", pem, "-subj", f"/CN={host}", "-days", 2),
        *("-addext", f"subjectAltName=DNS:{host}"),
    )
    return pem, key


def encrypted(key: Path) -> Path:
    """The same key, which cannot be read without a password."""
    made = key.with_suffix(".encrypted")
    openssl("pkcs8", "-topk8", "-in", key, "-out", made, "-passout", "pass:open sesame")
    return made


def passwords(path: Path, **users: str) -> Path:
    """Mosquitto's file of users and passwords."""
    program = shutil.which("mosquitto_passwd")
    if program is None:
        pytest.skip("mosquitto_passwd is not installed (apt install mosquitto)")
    path.write_text("")
    for user, password in users.items():
        subprocess.run([program, "-b", str(path), user, password], check=True, capture_output=True)
    return path
