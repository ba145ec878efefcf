"""`qctl events --serve`: the dashboard in a browser.

In:  a session, an address.  Out: a web server, until Ctrl-C.  Access needs the token: it is in the printed
address, and after that a session cookie replaces it, which other sites cannot send. The dashboard is
read-only without --read-write. Each browser has a dashboard process of its own.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import os
import secrets
import shlex
import socket
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from qctl import exit_codes
from qctl.cli.orphans import with_us

if TYPE_CHECKING:
    from qctl.cli.session import Session

COOKIE = "qctl_token"
TOKEN = "QCTL_SERVE_TOKEN"
LEAST_TOKEN = 16
#: so long the server waits for a piece of a file that the dashboard sends
DOWNLOAD_S = 60


def serve(session: Session, host: str, port: int, words: list[str]) -> int:
    """Serve until Ctrl-C; words: options of `qctl events` for the dashboard; port 0: any free one. Raises
    CommandError when the extra is not installed or the address cannot be bound."""
    try:
        from aiohttp import web
        from textual_serve import download_manager
        from textual_serve.server import Server

        from qctl.dashboard.web_driver import DRIVER
    except ImportError:
        raise exit_codes.CommandError(
            exit_codes.BAD_CONFIG, "--serve needs packages that are not installed", "pip install 'qctl[web]'"
        ) from None
    token = os.environ.get(TOKEN) or secrets.token_urlsafe(24)
    if len(token) < LEAST_TOKEN:
        raise exit_codes.CommandError(
            exit_codes.BAD_CONFIG, f"{TOKEN} is too short", f"at least {LEAST_TOKEN} characters"
        )
    sessions: set[str] = set()
    port = _free(host, port)
    os.environ["QCTL_BROKER_URL"] = session.app.broker_url()
    writes = session.options.read_only is False
    command = [sys.executable, "-m", "qctl", *_context(session), "events", *words]
    command.append("--read-write" if writes else "--read-only")

    @web.middleware
    async def admit(request: Any, handler: Any) -> Any:
        """Admit requests with the token or a session cookie, and only from this server's pages. Each browser
        gets its own session id, which expires when the server ends."""
        if why := _foreign(request.headers.get("Host", ""), request.headers.get("Origin"), host):
            raise web.HTTPForbidden(text=f"{why}\n")
        given = request.query.get("token", "")
        if given and _same(given, token):
            answer = web.HTTPFound("/")
            sessions.add(own := secrets.token_urlsafe(24))
            answer.set_cookie(COOKIE, own, httponly=True, samesite="Strict")
            raise answer
        if request.cookies.get(COOKIE, "") not in sessions:
            raise web.HTTPForbidden(text="the address that `qctl events --serve` printed has the token\n")
        return await handler(request)

    class Guarded(Server):
        """The server with the token check, and without its log."""

        def initialize_logging(self) -> None:
            """Configure nothing: only errors appear, on stderr."""

        async def _make_app(self) -> Any:
            made = await super()._make_app()
            made.middlewares.append(admit)
            return made

        async def on_startup(self, app: Any) -> None:
            self._saying = asyncio.create_task(self._say_where())

        async def _say_where(self) -> None:
            """Print the address once the server accepts connections."""
            while not await _answers(host, port):
                await asyncio.sleep(0.02)
            session.out.text(f"{self.public_url}/?token={token}")
            session.out.note(f"the dashboard is served {'' if writes else 'read-only '}until Ctrl-C")
            if not _is_loopback(host):
                session.out.warn(
                    f"{host} can be reached from other machines, and what is sent is not encrypted"
                )
            sys.stdout.flush()

    shown = f"[{host}]" if ":" in host else host
    # The shell that textual-serve starts is replaced by the dashboard, which ends with this process.
    os.environ.update(with_us({}))
    line = f"TEXTUAL_DRIVER={DRIVER} exec {shlex.join(command)}"
    # A file is sent in pieces, for each of which the dashboard of a busy machine needs its time.
    download_manager.DOWNLOAD_TIMEOUT = DOWNLOAD_S
    Guarded(line, host, port, "qctl", f"http://{shown}:{port}").serve()
    return exit_codes.OK


def _context(session: Session) -> list[str]:
    return ["--context", session.context.name] if session.context is not None else []


async def _answers(host: str, port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.close()
    return True


def _same(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode(), token.encode())


def _foreign(given: str, origin: str | None, host: str) -> str:
    """Why a request does not come from a page of this server; empty: it does.

    given: its Host header. Another host name that resolves to this address is refused (DNS rebinding); IP
    addresses, this host's names and the bound name pass. origin: its Origin header, None without one.
    """
    try:
        name = urlsplit(f"//{given}").hostname or ""
    except ValueError:
        name = ""
    ours = {host.lower(), "localhost", socket.gethostname().lower(), socket.getfqdn().lower()}
    if name not in ours and not _is_address(name):
        return f"this server is not called '{given}'; use the address that `qctl events --serve` printed"
    if origin is not None and urlsplit(origin).netloc.lower() != given.lower():
        return f"a page of {origin} may not use this dashboard"
    return ""


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _free(host: str, port: int) -> int:
    """The port; for 0 a free one. Raises CommandError when it cannot be bound."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            return int(probe.getsockname()[1])
    except OSError as exc:
        raise exit_codes.CommandError(
            exit_codes.USAGE,
            f"{host}:{port} cannot be listened on: {exc.strerror or exc}",
            "choose another --port",
        ) from None
