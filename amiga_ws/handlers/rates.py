"""How often an address, a token or a subject may do what."""

from __future__ import annotations

from amiga_ws.config import Limits
from amiga_ws.ratelimit import BucketTable, Pace

UNPROVEN = 4.0  # what a connection costs until it has brought a request; then it is one
BEGUN = 30  # at least, of connections and of requests of any kind: a second and address
CONNECTS_BURST, BEGUN_BURST = 60, 300  # at least, in a burst
# Of who comes too fast; who would have to wait longer is closed. All of a burst is begun in this time.
MAX_WAIT_S = 2.0
TOGETHER = 12  # of it in one moment: a browser opens six connections
SIGN_IN_FAILURES = 5  # a minute and address
SIGN_INS = 60  # a minute and subject: each sign-out is kept until its session would have ended


class Rates:
    """A table of buckets for each; `follow` sets those that the settings decide about."""

    def __init__(self, limits: Limits) -> None:
        self.connects = Pace()  # TCP connections, by address
        self.begun = Pace()  # requests of any kind, by address
        self.new_connections = BucketTable()  # streams, by address
        self.misuses = BucketTable()  # connections ended for what they sent, by the token handed out
        self.requests = BucketTable()  # REST, by address
        self.sign_in_failures = BucketTable(SIGN_IN_FAILURES / 60, SIGN_IN_FAILURES)  # by address
        self.sign_ins = BucketTable(SIGN_INS / 60, SIGN_INS)  # by subject
        self.follow(limits)

    def follow(self, limits: Limits) -> None:
        """Take in (other) settings; a table whose limit changes forgets what was taken."""
        streams, streams_burst = limits.new_connections_per_second, limits.new_connections_burst
        requests, requests_burst = limits.requests_per_second, limits.requests_burst
        self.new_connections.set_limit(streams, streams_burst)
        self.requests.set_limit(requests, requests_burst)
        self.misuses.set_limit(limits.misuses_per_minute / 60, limits.misuses_burst)
        # As many as could be of use if each brought one request or one stream.
        useful = max(BEGUN, requests + streams)
        connects_burst = UNPROVEN * max(CONNECTS_BURST, requests_burst + streams_burst)
        self.connects.set_limit(useful, connects_burst, MAX_WAIT_S, UNPROVEN * TOGETHER)
        # The files of pages, which are no requests by the limit, come many at once.
        begun_burst = max(BEGUN_BURST, 5 * requests_burst + streams_burst)
        self.begun.set_limit(useful, begun_burst, MAX_WAIT_S, TOGETHER)
