"""Events to a web server: one POST each, in order, tried again while it is away.

By the standard library's urllib: one short request now and then needs no pool of connections, and every further package
would have to be kept up to date on every device.
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
from tagger.retry import is_power_of_two
from tagger.settings import WebhookSettings
from tagger.sinks.queued import QueuedSink

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 10.0
LAST_PAUSE_SECONDS = 0.25
"""Between tries, once the daemon wants to end."""
_MOST_PATIENCE_SECONDS = 300.0
"""A server that asks for more (Retry-After) is asked again all the same."""
_AGAIN = (408, 429)
"""The 4xx that say: later. All 5xx do."""
_SAME_METHOD = (301, 307, 308)
"""Redirects after which the same is sent to the new place. The others stand for a GET, of a login page, say."""
_SAFE = "%/:=&?~+!$,;'@()*[]|"
"""What may stay in a path or a query as it is."""


@dataclass(frozen=True)
class Post:
    body: bytes
    key: str
    """The same at every try, so that a server can tell an event that it has had already."""
    given: float
    """When, on the monotonic clock."""


class _AwayError(Exception):
    """It may succeed later."""

    def __init__(self, why: str, wait_s: float = 0.0) -> None:
        super().__init__(why)
        self.wait_s = wait_s


class _RefusedError(Exception):
    """It will never succeed."""


class WebhookSink(QueuedSink[Post]):
    """What is logged names the server alone: path, query, user, password and token may be secrets."""

    def __init__(self, settings: WebhookSettings) -> None:
        super().__init__("webhook", settings.where, settings.queue_events)
        self._give_up_s = settings.give_up_s
        self._url, user = _without_user(settings.url)
        self._headers = {"Content-Type": "application/json", "User-Agent": f"tagger/{__version__}"}
        if settings.token is not None:
            self._headers["Authorization"] = f"Bearer {settings.token}"
        elif user is not None:
            self._headers["Authorization"] = f"Basic {base64.b64encode(user.encode()).decode()}"
        self._opener = urllib.request.build_opener(_SameHost)
        self._refusals: set[str] = set()
        """Those that were said."""
        self._given_up = 0
        self._end = float("inf")
        """When all must be over, on the monotonic clock."""

    def open(self, streams: Sequence[Stream]) -> None:
        self._start()

    def event(self, stream: Stream, event: Event) -> None:
        body = json.dumps(event.to_json(stream, time.time()), allow_nan=False).encode()
        self._put(Post(body, f"{event.id}-{event.type}", time.monotonic()))

    def close(self, wait_s: float) -> None:
        self._end = time.monotonic() + wait_s
        super().close(wait_s)

    def _do(self, item: Post) -> None:
        while time.monotonic() < self._end:
            try:
                self._send(item)
            except _RefusedError as refusal:
                self._lose()
                self._say_refused(str(refusal))
                return
            except _AwayError as away:
                too_old = time.monotonic() - item.given >= self._give_up_s
                self._pause(max(self._retry.failed(str(away)), min(away.wait_s, _MOST_PATIENCE_SECONDS)))
                if too_old:
                    self._lose()
                    self._say_given_up()
                    return
            else:
                self._retry.worked()
                self._delivered()
                return

    def _send(self, post: Post) -> None:
        """
        Raises:
            _AwayError, _RefusedError: it was not delivered.
        """
        headers = self._headers | {"Idempotency-Key": post.key}
        request = urllib.request.Request(self._url, post.body, headers, method="POST")
        timeout_s = max(0.1, min(TIMEOUT_SECONDS, self._end - time.monotonic()))
        try:
            self._opener.open(request, timeout=timeout_s).close()
        except urllib.error.HTTPError as error:
            error.close()
            said = f"answers {error.code} {http.client.responses.get(error.code, '')}".rstrip()
            if error.code >= 500 or error.code in _AGAIN:
                raise _AwayError(said, _retry_after_s(error.headers)) from None
            raise _RefusedError(said) from None
        except (OSError, http.client.HTTPException) as error:
            raise _AwayError(_reason(error)) from None

    def _pause(self, seconds: float) -> None:
        assert self._worker is not None
        if self._worker.rest(seconds):  # the daemon wants to end
            time.sleep(max(0.0, min(LAST_PAUSE_SECONDS, self._end - time.monotonic())))

    def _say_refused(self, why: str) -> None:
        if why not in self._refusals:
            self._refusals.add(why)
            log.warning("%s: %s; such events are dropped; check the webhook's URL and token", self._where, why)

    def _say_given_up(self) -> None:
        self._given_up += 1
        count = self._given_up
        if is_power_of_two(count):
            log.warning("%s: gave up after %g s (%d events so far)", self._where, self._give_up_s, count)


class _SameHost(urllib.request.HTTPRedirectHandler):
    """Sends the same once more, but to no other host or port, except that `http://` may become `https://`."""

    max_redirections = 5

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        if code not in _SAME_METHOD:
            return None
        old, new = urlsplit(req.full_url), urlsplit(urljoin(req.full_url, newurl))
        is_encrypted_now = (old.scheme, new.scheme, old.hostname) == ("http", "https", new.hostname)
        if (old.scheme, old.netloc) != (new.scheme, new.netloc) and not is_encrypted_now:
            return None
        return urllib.request.Request(new.geturl(), req.data, dict(req.headers), method="POST")


def _without_user(url: str) -> tuple[str, str | None]:
    """A URL as a request has it, and `user:password`, decoded."""
    parts = urlsplit(url)
    at, host = parts.netloc.rpartition("@")[1:]
    clean = urlunsplit((parts.scheme, host, quote(parts.path, safe=_SAFE), quote(parts.query, safe=_SAFE), ""))
    user = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}" if at else None
    return clean, user


def _retry_after_s(headers: Message) -> float:
    """What the server asks for, seconds: it says so as a number, or as a date."""
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
    """Why a connection failed; never with the URL."""
    inner = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(inner, TimeoutError):
        return "does not answer in time"
    if isinstance(inner, http.client.RemoteDisconnected):
        return "hangs up without an answer"
    if isinstance(inner, http.client.HTTPException):
        return "does not answer as a web server does"
    reason = getattr(inner, "verify_message", None) or getattr(inner, "strerror", None) or type(inner).__name__
    return f"cannot be reached ({reason})"
