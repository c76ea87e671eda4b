"""HTTP for FFmpeg where a stream comes in pieces. It would check the list's server, and not the pieces'."""

import base64
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from tagger.condition import Reason, SourceError
from tagger.sources.network import reasons

OPTIONS = {"http_persistent": "0", "http_multiple": "0"}
"""FFmpeg's, of HLS: each piece is asked for by `opener`'s function, which keeps no connection."""
_AGENT = "Lavf/60"
"""Some servers refuse programs that they do not know."""
_STATUS: dict[int, tuple[Reason, str]] = {
    401: ("password", "the server does not accept this user and password (401)"),
    403: ("password", "the server forbids it to this user (403)"),
    404: ("not_found", "the server has no such stream (404)"),
}


def opener(ca_file: str, timeout_s: float) -> Callable[[str, int, dict[str, str]], Any]:
    """A function that opens what FFmpeg asks for, as PyAV's `io_open` does: a file that can be read.

    Args:
        ca_file: authorities that are believed; "" those of the system.
        timeout_s: longest wait for a connection, and for each part of the answer, seconds.

    Raises:
        SourceError: it cannot be opened; by the function that is returned. The file of authorities holds none.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file or None)
    except (OSError, ValueError):
        raise SourceError("certificate", f"the file of tls_ca_certs holds no certificate; {reasons.TRUST}") from None

    def open_(url: str, flags: int, options: dict[str, str]) -> Any:
        try:
            return urllib.request.urlopen(_request(url), timeout=timeout_s, context=context)
        except (OSError, ValueError) as error:
            raise _explained(error, urlsplit(url).hostname or "") from None

    return open_


def _request(url: str) -> urllib.request.Request:
    parts = urlsplit(url)
    if parts.scheme.startswith("crypto"):
        raise SourceError(
            "failed", "its pieces are encrypted once more (AES); tls_verify = false plays them, unchecked"
        )
    if parts.scheme not in ("http", "https"):
        raise SourceError("failed", f"its list names what is not HTTP ({parts.scheme})")
    request = urllib.request.Request(
        urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])), headers={"User-Agent": _AGENT}
    )
    if parts.username is not None:
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        request.add_unredirected_header("Authorization", f"Basic {base64.b64encode(user.encode()).decode()}")
    return request


def _explained(error: Exception, host: str) -> SourceError:
    if isinstance(error, urllib.error.HTTPError):
        error.close()  # it holds the connection
        return SourceError(*_STATUS.get(error.code, ("failed", f"the server answers with an error ({error.code})")))
    cause = getattr(error, "reason", error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        said = cause.verify_message.strip(" .")
        return SourceError("certificate", f"the certificate of {host} is not trusted ({said}); {reasons.TRUST}")
    if isinstance(cause, TimeoutError):
        return SourceError("no_bytes", f"{host} does not answer")
    if isinstance(cause, OSError):
        return SourceError(*reasons.explained(cause, reasons.said(cause), is_open=False))
    return SourceError("failed", f"it cannot be opened ({type(error).__name__})")
