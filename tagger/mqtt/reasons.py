"""Why a connection failed, in words; and which failures no further attempt can cure."""

import re
import ssl

ADVICE = {
    "Bad user name or password": "check user and password",
    "Not authorized": "check user and password",
    "Banned": "ask whoever runs the broker",
    "Client identifier not valid": "choose another client_id",
    "Unsupported protocol version": "choose another version of MQTT, 3.1.1 or 5",
}
"""Reason codes of a broker that refuses for good, and what the user can do. Another attempt cannot help."""
_CERTIFICATE_NOT_YET_VALID = 9
"""OpenSSL's verify code X509_V_ERR_CERT_NOT_YET_VALID. The local clock may not be set yet, as on a Raspberry Pi that
boots, so another attempt can help."""


def describe(error: BaseException | None) -> str:
    """The error in a few words, without OpenSSL's file names and line numbers."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return re.sub(r"^_ssl\.c:\d+: ", "", text)


def certificate_refusal(error: BaseException | None) -> str:
    """Message for the user when one side does not accept the other's certificate. Empty for any other error."""
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code == _CERTIFICATE_NOT_YET_VALID:
            return ""
        return f"is not trusted: {describe(error)}; check tls_ca_certs and tls_host_name"
    if isinstance(error, ssl.SSLError) and re.search("ALERT.*(CERTIFICATE|UNKNOWN_CA)", error.reason or ""):
        return f"wants a client certificate that it trusts ({describe(error)}); check tls_client_cert"
    return ""
