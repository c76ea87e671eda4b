"""Sends events to a web server: one POST each, in order, tried again while the server is away.

The standard library's urllib suffices: one short request now and then needs no pool of connections, and every further
package would have to be kept up to date on every device.
"""

import base64
import email.utils
import http.client
import json
import logging
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import Message
from typing import IO
from urllib.parse import quote, unquote, urljoin, urlsplit, urlunsplit

from tagger import __version__
from tagger.events import Event, Stream
from tagger.printable import number_of
from tagger.retry import Repeats
from tagger.settings import WebhookSettings
from tagger.sinks.queued import QueuedSink

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 10.0
"""Longest wait for a connection or an answer."""
LAST_PAUSE_SECONDS = 0.25
"""Wait between tries after `close`."""
MAX_RETRY_AFTER_SECONDS = 300.0
"""Longest wait that a server's Retry-After can ask for."""
_RETRIABLE = (408, 429)
"""4xx status codes after which the same request may succeed later. All 5xx are such."""
_SAME_METHOD = (301, 307, 308)
"""Redirects after which the same POST goes to the new URL. The others mean a GET, for example of a login page."""
_SAFE_CHARACTERS = "%/:=&?~+!$,;'@()*[]|"
"""Characters of a path or a query that are not percent-encoded."""


@dataclass(frozen=True)
class Post:
    """A request to the web server."""

    body: bytes
    """JSON of the event."""
    idempotency_key: str
    """The same at every try, so that a server can recognise an event that it has received already."""
    queued_at: float
    """Time of the event's arrival here, on the monotonic clock."""


class _AwayError(Exception):
    """The request has failed and may succeed later; at the earliest after `wait_s` seconds."""

    def __init__(self, why: str, wait_s: float = 0.0) -> None:
        super().__init__(why)
        self.wait_s = wait_s


class _RefusedError(Exception):
    """The server refuses the request for good."""


class WebhookSink(QueuedSink[Post]):
    """Logs name only the server: path, query, user, password and token may be secrets."""

    def __init__(self, settings: WebhookSettings) -> None:
        super().__init__("webhook", settings.where, settings.queue_events)
        self._give_up_s = settings.give_up_s
        self._url, user = split_user(settings.url)
        self._headers = {"Content-Type": "application/json", "User-Agent": f"tagger/{__version__}"}
        if settings.token is not None:
            self._headers["Authorization"] = f"Bearer {settings.token}"
        elif user is not None:
            self._headers["Authorization"] = f"Basic {base64.b64encode(user.encode()).decode()}"
        self._opener = urllib.request.build_opener(_SameHostRedirects)
        self._refusals: set[str] = set()
        """Refusals that are in the log, since an event was last taken."""
        self._given_up = Repeats()
        """Events that were dropped because they were too old."""
        self._deadline = float("inf")
        """End of the last try, on the monotonic clock."""

    def open(self, streams: Sequence[Stream]) -> None:
        self._start_worker()

    def event(self, stream: Stream, event: Event) -> None:
        body = json.dumps(event.to_json(stream, time.time()), allow_nan=False).encode()
        self._enqueue(Post(body, f"{event.id}-{event.type}", time.monotonic()))

    def close(self, wait_s: float) -> None:
        self._deadline = time.monotonic() + wait_s
        super().close(wait_s)

    def _deliver(self, item: Post) -> None:
        while time.monotonic() < self._deadline:
            try:
                self._send(item)
            except _RefusedError as refusal:
                self._count_lost()
                self._log_refusal(str(refusal))
                return
            except _AwayError as away:
                is_too_old = time.monotonic() - item.queued_at >= self._give_up_s
                self._pause(max(self.retry.failed(str(away)), min(away.wait_s, MAX_RETRY_AFTER_SECONDS)))
                if is_too_old:
                    self._count_lost()
                    self._log_given_up()
                    return
            else:
                self.retry.worked()
                self._refusals.clear()
                self._count_delivered()
                return

    def _send(self, post: Post) -> None:
        """
        Raises:
            _AwayError: the event was not delivered, and may be later.
            _RefusedError: the server will never accept the event.
        """
        headers = self._headers | {"Idempotency-Key": post.idempotency_key}
        request = urllib.request.Request(self._url, post.body, headers, method="POST")
        timeout_s = max(0.1, min(TIMEOUT_SECONDS, self._deadline - time.monotonic()))
        try:
            self._opener.open(request, timeout=timeout_s).close()
        except urllib.error.HTTPError as error:
            error.close()
            reason = f"answers {error.code} {http.client.responses.get(error.code, '')}".rstrip()
            if error.code >= 500 or error.code in _RETRIABLE:
                raise _AwayError(reason, _retry_after_s(error.headers)) from None
            raise _RefusedError(reason) from None
        except (OSError, http.client.HTTPException) as error:
            raise _AwayError(_reason(error)) from None

    def _pause(self, seconds: float) -> None:
        assert self._worker is not None
        if self._worker.wait_for_close(seconds):
            time.sleep(max(0.0, min(LAST_PAUSE_SECONDS, self._deadline - time.monotonic())))

    def _log_refusal(self, why: str) -> None:
        if why not in self._refusals:
            self._refusals.add(why)
            log.warning("%s: %s; such events are dropped; check the webhook's URL and token", self._where, why)

    def _log_given_up(self) -> None:
        if self._given_up.add():
            so_far = number_of(self._given_up.count, "event")
            log.warning("%s: gave up after %g s (%s so far)", self._where, self._give_up_s, so_far)


class _SameHostRedirects(urllib.request.HTTPRedirectHandler):
    """Repeats the POST at the new URL if host and port are the same, or if only `http://` becomes `https://`."""

    max_redirections = 5

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        if code not in _SAME_METHOD:
            return None
        old, new = urlsplit(req.full_url), urlsplit(urljoin(req.full_url, newurl))
        becomes_encrypted = (old.scheme, new.scheme, old.hostname) == ("http", "https", new.hostname)
        if (old.scheme, old.netloc) != (new.scheme, new.netloc) and not becomes_encrypted:
            return None
        return urllib.request.Request(new.geturl(), req.data, dict(req.headers), method="POST")


def split_user(url: str) -> tuple[str, str | None]:
    """The URL for a request, percent-encoded and without user; and `user:password`, decoded. None: no user."""
    parts = urlsplit(url)
    at, host = parts.netloc.rpartition("@")[1:]
    clean = urlunsplit(
        (parts.scheme, host, quote(parts.path, safe=_SAFE_CHARACTERS), quote(parts.query, safe=_SAFE_CHARACTERS), "")
    )
    user = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}" if at else None
    return clean, user


def _retry_after_s(headers: Message) -> float:
    """The wait that the server asks for, seconds. Retry-After is a number of seconds, or a date. 0: none."""
    text = headers.get("Retry-After", "")
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _reason(error: BaseException) -> str:
    """Why a connection failed, without the URL."""
    inner = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(inner, TimeoutError):
        return "does not answer in time"
    if isinstance(inner, http.client.RemoteDisconnected):
        return "hangs up without an answer"
    if isinstance(inner, http.client.HTTPException):
        return "does not answer as a web server does"
    reason = getattr(inner, "verify_message", None) or getattr(inner, "strerror", None) or type(inner).__name__
    return f"cannot be reached ({reason})"
