"""The TLS context of a connection: which certificates it trusts, and which it shows."""

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tagger.errors import UserError
from tagger.settings import MqttSettings


class _PinnedNameContext(ssl.SSLContext):
    """Requests and checks `host_name`, whatever name or address the broker was reached by."""

    host_name: str

    def wrap_socket(self, *args: Any, **options: Any) -> ssl.SSLSocket:
        return super().wrap_socket(*args, **options | {"server_hostname": self.host_name})


def tls_context(settings: MqttSettings) -> ssl.SSLContext:
    """Builds the context from the `tls_` settings.

    Raises:
        UserError: a file is missing, or holds no certificate or key; or `tls_host_name` is no host name.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if settings.tls_host_name is not None:
        context = _PinnedNameContext(ssl.PROTOCOL_TLS_CLIENT)
        context.host_name = settings.tls_host_name
        try:
            context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=settings.tls_host_name)
        except ValueError as error:  # checked here, because paho would not notice
            raise UserError(f"tls_host_name {settings.tls_host_name!r}: is no host's name ({error})") from None
    if settings.tls_insecure:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    elif settings.tls_ca_certs is None:
        context.load_default_certs()
    else:
        _load_certificates("tls_ca_certs", settings.tls_ca_certs, context.load_verify_locations)
    if settings.tls_client_cert is not None:
        _load_client_certificate(context, settings.tls_client_cert, settings.tls_client_key)
    return context


def _load_client_certificate(context: ssl.SSLContext, certificate: Path, key: Path | None) -> None:
    """Loads the client's certificate and key. Reads the certificate alone first, so that an error names the right file.

    Args:
        key: None: the key is in the certificate's file.
    """
    _load_certificates("tls_client_cert", certificate, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations)
    at = f"tls_client_cert {certificate}" if key is None else f"tls_client_key {key}"
    no_password = "\0"  # without one, OpenSSL would ask at the terminal
    try:
        is_encrypted = b"ENCRYPTED" in (key or certificate).read_bytes()
        context.load_cert_chain(certificate, key, lambda: no_password)
    except ssl.SSLError as error:
        if is_encrypted:
            raise UserError(f"{at}: the key is encrypted; write it without a password: openssl pkey") from None
        if error.reason == "KEY_VALUES_MISMATCH":
            raise UserError(f"{at}: the key does not belong to the certificate in {certificate}") from None
        more = "; name the file that does: tls_client_key" if key is None else ""
        raise UserError(f"{at}: holds no private key in PEM form{more}") from None
    except OSError as error:
        raise UserError(f"{at}: {error.strerror or error}") from None


def _load_certificates(setting: str, path: Path, load: Callable[[Path], None]) -> None:
    try:
        load(path)
    except ssl.SSLError:
        raise UserError(f"{setting} {path}: holds no certificate in PEM form") from None
    except OSError as error:
        raise UserError(f"{setting} {path}: {error.strerror or error}") from None
