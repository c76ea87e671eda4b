"""FFmpeg's errors in our words."""

import errno

from tagger.condition import Reason

TRUST = "name its authority, or the certificate itself, by tls_ca_certs = FILE.pem, or set tls_verify = false"
"""What to do about a certificate that is not trusted."""
LET_OTHERS = "let go2rtc or mediamtx receive it, and listen to that by rtsp://"
"""What to do about a protocol that FFmpeg lacks."""
_RTP = (
    "it is no RTP, or its format is none of those that RTP numbers: MPEG-TS, PCMU, PCMA, L16, MP2 and MP3 are; AAC and "
    "Opus are not, so send them as MPEG-TS in RTP, or by rtsp://"
)
_NO_WAY = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN)
_BROKEN = (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN, errno.EBADF)


def is_timeout(error: Exception) -> bool:
    """Whether FFmpeg gave up because nothing came."""
    return type(error).__name__ in ("ExitError", "TimeoutError") or getattr(error, "errno", None) == errno.ETIMEDOUT


def said(error: Exception) -> str:
    """FFmpeg's words, without the URL that its errors name."""
    return " ".join(str(getattr(error, "strerror", None) or type(error).__name__).split())[:200]


def explained(error: Exception, its_words: str, is_open: bool, scheme: str = "") -> tuple[Reason, str]:
    """The reason of an error of PyAV, and that in words.

    Args:
        its_words: what `said` gives, without secrets.
        is_open: whether sound has come.
        scheme: of the stream's URL.
    """
    code = getattr(error, "errno", None)
    damage = _RTP if scheme == "rtp" and not is_open else f"what comes is damaged or no audio ({its_words})"
    known: dict[str, tuple[Reason, str]] = {
        "HTTPUnauthorizedError": ("password", "the server does not accept this user and password (401)"),
        "HTTPForbiddenError": ("password", "the server forbids it to this user (403)"),
        "HTTPNotFoundError": ("not_found", "the server has no such stream (404)"),
        "HTTPServerError": ("failed", "the server answers with an error of its own (5xx)"),
        "ProtocolNotFoundError": ("failed", f"this FFmpeg has no such protocol; {LET_OTHERS}"),
        "EOFError": ("gone", "the stream has ended") if is_open else ("no_bytes", "it hung up before any sound came"),
        "InvalidDataError": ("not_audio", damage),
    }
    if type(error).__name__ in known:
        return known[type(error).__name__]
    if code == errno.ECONNREFUSED:
        return "refused", "the other machine takes no connection there (refused)"
    if code in _NO_WAY:
        return "cannot_connect", f"no way to the other machine ({its_words})"
    if code in _BROKEN:
        return "gone", f"the connection broke ({its_words})"
    return (
        "gone" if is_open else "failed",
        f"{'the stream has ended or broke' if is_open else 'it cannot be opened'} ({its_words})",
    )
