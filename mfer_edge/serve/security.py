"""Who may ask: Host, Origin and token of every request, and the headers of every answer."""

from __future__ import annotations

import hmac
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mfer_edge.serve.options import ServeOptions, is_loopback

OPEN_PATHS = ("/v1/healthz",)  # that need no token: for probes

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' blob: data:; media-src 'self' blob:; worker-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(self), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@dataclass(frozen=True)
class Refusal:
    """Why a request is not answered."""

    status: int
    error: str


@dataclass(frozen=True)
class AccessPolicy:
    """Rules on who is answered.

    Host: a page of another site can make a browser ask this server under that site's name (DNS
    rebinding), so names are answered only if they are known; an address can't be rebound. Origin: a
    browser names the site whose page asks; programs name none. Token: what a request has to bring.
    """

    names: frozenset[str]  # lower case
    any_address: bool  # whether a literal address other than loopback is taken as Host
    token: str | None
    cookie: str  # name of the cookie that holds the token

    @classmethod
    def of(cls, options: ServeOptions) -> AccessPolicy:
        """Rules for a server that listens with these options."""
        names = {"localhost", *(name.lower() for name in options.allow_hosts)}
        local = is_loopback(options.host)
        if not local:
            names |= {socket.gethostname().lower(), socket.getfqdn().lower(), options.host.lower()}
        # Cookies are shared by all ports of a host: two servers must not overwrite each other's.
        return cls(frozenset(names), not local, options.token, f"mfer_edge_{options.port}")

    def refusal(self, scope: Scope) -> Refusal | None:
        """Why a request is refused; None if it is not."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._knows(host):
            return Refusal(
                421, f"this server is not known as {host[:100]!r}: see `--allow-host` of serve"
            )
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return Refusal(403, f"a page of {origin[:100]} may not use this server")
        if self.token is None or scope["path"] in OPEN_PATHS or self._brings_token(scope, headers):
            return None
        return Refusal(
            401,
            "a token is needed: open the address that `mfer-edge serve` printed, or send "
            "`Authorization: Bearer TOKEN`",
        )

    def token_in_address(self, scope: Scope) -> bool:
        """Whether the right token is in the address, as in the one that is printed."""
        if self.token is None or scope["type"] != "http":
            return False
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        return self._is_token(given)

    def _knows(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            return False
        try:
            return ip_address(name).is_loopback or self.any_address
        except ValueError:
            return name in self.names

    def _brings_token(self, scope: Scope, headers: Headers) -> bool:
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return self._is_token(given.strip())
        try:
            cookies: Mapping = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            return False
        return self.cookie in cookies and self._is_token(cookies[self.cookie].value)

    def _is_token(self, given: str) -> bool:
        return self.token is not None and hmac.compare_digest(given.encode(), self.token.encode())


class Gate:
    """ASGI middleware that refuses requests by a policy, and adds the security headers."""

    def __init__(self, app: ASGIApp, policy: AccessPolicy) -> None:
        self._app, self._policy = app, policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        refusal = self._policy.refusal(scope)
        app = self._app
        if refusal is not None and refusal.status == 401 and self._policy.token_in_address(scope):
            app = self._with_cookie(scope)
        elif refusal is not None:
            app = denial(refusal)
        await app(scope, receive, send_with_headers)

    def _with_cookie(self, scope: Scope) -> Response:
        # The token leaves the address bar, and with it the history and copies of the address.
        answer = RedirectResponse(scope["path"], status_code=303)
        answer.set_cookie(
            self._policy.cookie,
            self._policy.token or "",
            httponly=True,
            samesite="strict",
            secure=scope["scheme"] == "https",
        )
        return answer


def denial(refusal: Refusal) -> ASGIApp:
    """An answer in words, also to a WebSocket's handshake."""
    headers = {"Retry-After": "5"} if refusal.status == 503 else None
    return JSONResponse({"error": refusal.error}, refusal.status, headers)
