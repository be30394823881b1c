"""Sign-in links: which address they point to, and what is said when the server has just started."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

from amiga_ws import state
from amiga_ws.cli.arguments import UsageError
from amiga_ws.config import Settings
from amiga_ws.config.kinds import spoken


def base_url(settings: Settings) -> str:
    """Where people reach the server: `server.public_url`, else the running one's, else the configuration's.

    Raises:
        UsageError: nothing of it says a port.
    """
    server = settings.server
    if server.public_url:
        return server.public_url
    if running := state.read_server_url(settings.state_dir):
        return running
    if server.port == 0:
        raise UsageError(
            f"no server runs on {settings.state_dir} and server.port is 0, so a link would have no port; "
            "start the server first, or set server.public_url"
        )
    return state.reachable_url(server.host, server.port, tls=server.tls.cert is not None)


def sign_in_link(base: str, login_token: str) -> str:
    """The link that signs a browser in. In a fragment, because that never reaches a log or a Referer."""
    return f"{base}/login#login={login_token}"


def is_loopback(url: str) -> bool:
    """Whether only this machine can open `url`."""
    return urlsplit(url).hostname in ("127.0.0.1", "::1", "localhost")


def welcome(settings: Settings, link: str, another: str) -> str:
    """What `scripts/run` says when the server listens: the way in, another one, and from elsewhere.

    `another` is the command that prints a new link.
    """
    listening = urlsplit(state.read_server_url(settings.state_dir) or base_url(settings))
    host, port = listening.hostname or "", listening.port
    target = f"[{host}]" if ":" in host else host
    return f"""
Sign in with this link (it works once, within {spoken(settings.auth.login_ttl)}):

  {link}

Another link:
  {another}

From a phone or another computer, one of:
  ssh -N -L {port}:{target}:{port} {socket.gethostname()}
      there, while it stays open; then open a new link there
  a reverse proxy with TLS before {host}:{port}, and its address as server.public_url:
      --set server.public_url=https://monitor.example --set server.trusted_proxies=127.0.0.1
      (the second is the proxy's own address; new links point there; add --qr to scan one)

"""
