"""What both transports do when a viewer arrives: make its Client and greet it."""

from __future__ import annotations

import secrets
from typing import Protocol

from amiga_ws.auth.tokens import Identity
from amiga_ws.client import HEARTBEAT_S, Client, Transport
from amiga_ws.handlers.guard import SERVER_VERSION, Services
from amiga_ws.ratelimit import TokenBucket
from amiga_ws.wire import Connected, Limits


class Admitted(Protocol):
    """A handler that the guard has let pass."""

    services: Services
    identity: Identity

    @property
    def address(self) -> str: ...


def welcome(handler: Admitted, transport: Transport) -> Client:
    """Register the connection and say `connected`.

    At the limit of its subject the longest-silent connection makes room: the newest one is looked at.
    """
    services, identity = handler.services, handler.identity
    limits, now = services.settings.limits, services.clock.monotonic()
    client = Client(
        client_id=secrets.token_hex(8),
        identity=identity,
        transport=transport,
        address=handler.address,
        clock=services.clock,
        messages=TokenBucket(limits.messages_per_second, limits.messages_burst, now),
        refreshes=TokenBucket(limits.refreshes_per_second, limits.refreshes_burst, now),
    )
    # Only here: a request that comes to no stream in the end must not cost another one its connection.
    if services.hub.connections_of(subject=identity.subject) >= limits.connections_per_subject:
        services.hub.evict_silent(identity.subject)
    services.hub.add(client)
    client.say(
        Connected(
            client_id=client.client_id,
            subject=identity.subject,
            scopes=sorted(identity.scopes),
            expires_in=round(identity.expires_at - services.clock.wall(), 1),
            heartbeat_interval=HEARTBEAT_S,
            limits=Limits(
                messages_per_second=limits.messages_per_second,
                messages_burst=limits.messages_burst,
                refreshes_per_second=limits.refreshes_per_second,
                refreshes_burst=limits.refreshes_burst,
                message_bytes=limits.message_bytes,
                connections_per_subject=limits.connections_per_subject,
            ),
            server_version=SERVER_VERSION,
        )
    )
    return client
