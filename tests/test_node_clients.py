"""Clients of the npm world, `ws` and `eventsource`, as real processes against a real server."""

from __future__ import annotations

import http.client
import json
import sys
from contextlib import ExitStack, closing

from nodejs import Peer, comes_true, needs_node
from processes import CHECKOUT, Running, clean_environment, completed

pytestmark = needs_node


def ws(url, **options):
    return Peer("ws.mjs", url.replace("http", "ws", 1) + "/ws", json.dumps(options))


def ws_as(server, **options):
    return ws(server.url, headers={"Authorization": f"Bearer {server.token()}"}, **options)


def sse(url, token, query="?interval=1"):
    return Peer("sse.mjs", f"{url}/api/stream/metrics{query}", token)


def asked(server):
    """The newest state as REST has it."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    with closing(connection):
        headers = {"Authorization": f"Bearer {server.token()}"}
        connection.request("GET", "/api/metrics/overview", headers=headers)
        return json.load(connection.getresponse())


def comparable(snapshot):
    """Without the clock readings, which alone make no new state."""
    sources = {
        name: {key: value for key, value in source.items() if key != "as_of"}
        for name, source in snapshot["sources"].items()
    }
    return {k: v for k, v in snapshot.items() if k not in ("timestamp", "position")} | {"sources": sources}


# -- ws -----------------------------------------------------------------------------------------


def test_ws_brings_the_token_as_a_subprotocol(threaded):
    with threaded() as server:
        offered = ["amiga.v1", f"amiga.bearer.{server.token()}"]
        with ws(server.url, protocols=offered, origin=server.url) as peer:
            assert peer.until("open")["open"] == "amiga.v1"
            assert peer.until("event", "connected")["data"]["subject"] == "ada"


def test_ws_brings_the_token_as_a_header(threaded):
    with threaded() as server, ws_as(server) as peer:
        assert peer.until("open")["open"] == ""
        assert peer.until("event", "connected")["data"]["subject"] == "ada"


def test_ws_is_refused_with_a_bad_token_and_sent_away_without_one(threaded):
    with threaded() as server:
        forged = server.token()[:-6] + "AAAAAA"
        for offer in (
            {"headers": {"Authorization": f"Bearer {forged}"}},
            {"protocols": ["amiga.v1", f"amiga.bearer.{forged}"]},
        ):
            with ws(server.url, **offer) as peer:
                refused = peer.until("refused")
                assert refused["refused"] == 401
                assert 'error="invalid_token"' in refused["challenge"]
                assert set(refused["body"]) == {"error", "code", "ref"}
        with ws(server.url) as peer:
            peer.until("open")
            peer.say("subscribe")
            assert peer.until("event")["data"]["code"] == 4501
            assert peer.until("closed")["closed"] == 4501


def test_patches_applied_by_another_library_make_what_rest_answers(threaded):
    with threaded() as server, ws_as(server) as peer:
        peer.until("event", "connected")
        peer.say("subscribe", {"update_interval": 1, "delta": True})
        peer.until("event", "metrics_update")
        for total in (8, 9, 10):
            server.amiga.total = total
            server.host.cpu_percent += 5
            patched = peer.until("event", "metrics_patch")["document"]
            # What was set while a reading was under way may come in two patches.
            while patched["overview"]["tasks"]["total"] != total or (
                patched["overview"]["system"]["cpu_percent"] != server.host.cpu_percent
            ):
                patched = peer.until("event", "metrics_patch")["document"]
            assert comparable(patched) == comparable(asked(server))


def test_ws_answers_pings_and_stays(threaded):
    with threaded("limits.connections_per_address=5") as server, ws_as(server) as peer:
        peer.until("event", "connected")
        (client,) = server.hub.clients.values()
        server.ahead_s += 26
        peer.until("ping")
        comes_true(lambda: not client.pinged)
        server.ahead_s += 12
        peer.say("subscribe")
        peer.until("event", "subscribed")
        assert not any("closed" in line for line in peer.seen)


def test_ws_resumes_where_it_was(threaded):
    with threaded() as server:
        with ws_as(server) as peer:
            peer.until("open")
            peer.say("subscribe", {"update_interval": 1, "delta": True})
            assert peer.until("event", "subscribed")["data"]["resumed"] is False
            position = peer.until("event", "metrics_update")["data"]["position"]
        with ws_as(server) as peer:
            peer.until("open")
            peer.say("subscribe", {"update_interval": 1, "resume": position})
            assert peer.until("event", "subscribed")["data"]["resumed"] is True
        with ws_as(server) as peer:
            peer.until("open")
            peer.say("subscribe", {"resume": "otherlife." + position.partition(".")[2]})
            answer = peer.until("event", "subscribed")["data"]
            assert (answer["resumed"], answer["why"]) == (False, "epoch")
            assert peer.until("event", "metrics_update")["data"]["overview"]["tasks"]["total"] == 7


# -- eventsource --------------------------------------------------------------------------------


def test_eventsource_brings_a_header_and_resumes_over_a_cut_connection(threaded):
    with threaded() as server, sse(server.url, server.token()) as peer:
        assert peer.until("asks")["asks"] is None
        assert peer.until("event", "connected")["data"]["subject"] == "ada"
        assert peer.until("event", "subscribed")["data"]["resumed"] is False
        state = peer.until("event", "message")
        assert state["id"] == state["data"]["position"]
        assert state["data"]["overview"]["tasks"]["total"] == 7
        peer.say()
        assert peer.until("error")["dead"] is False
        assert peer.until("asks")["asks"] == state["id"]
        assert peer.until("event", "subscribed")["data"]["resumed"] is True
        server.amiga.total = 8
        assert peer.until("event", "message")["data"]["overview"]["tasks"]["total"] == 8


def test_eventsource_gives_up_without_a_good_token(threaded):
    with threaded() as server:
        for token in ("", server.token()[:-6] + "AAAAAA"):
            with sse(server.url, token) as peer:
                error = peer.until("error")
                assert (error["error"], error["dead"]) == (401, True)


def test_eventsource_comes_back_after_a_refusal_that_passes(threaded):
    with threaded("limits.connections_per_address=1") as server, ExitStack() as held:
        held.enter_context(ws_as(server)).until("event", "connected")
        with sse(server.url, server.token("bob")) as peer:
            assert peer.until("event", "bye")["data"]["reconnect"] is True
            assert peer.until("error")["dead"] is False
            held.close()
            assert peer.until("event", "connected")["data"]["subject"] == "bob"
            assert peer.until("event", "message")["data"]["overview"]["tasks"]["total"] == 7


# -- the end of the server ----------------------------------------------------------------------


class Installation:
    """The server as its own process, and a token for it."""

    def __init__(self, folder):
        self.folder, self.port = folder, 0

    def command(self, word, *more):
        given = [f"state_dir={self.folder / 'state'}", f"amiga.root={self.folder / 'amiga'}"]
        given += [f"server.port={self.port}"]
        sets = [part for each in given for part in ("--set", each)]
        return [sys.executable, "-m", "amiga_ws", word, *sets, *more]

    def serve(self, stderr):
        environment = clean_environment(PYTHONPATH=str(CHECKOUT))
        running = Running(self.command("serve"), self.folder, self.folder / stderr, env=environment)
        self.port = int(running.url.rpartition(":")[2])
        return running

    def token(self):
        environment = clean_environment(PYTHONPATH=str(CHECKOUT))
        made = completed(self.command("token", "--subject", "ada"), cwd=self.folder, env=environment)
        assert made.returncode == 0, made.stderr
        return made.stdout.strip()


def test_both_hear_bye_at_sigterm_and_eventsource_finds_the_next_server(tmp_path):
    here = Installation(tmp_path)
    with here.serve("first") as running:
        token = here.token()
        with (
            ws(running.url, headers={"Authorization": f"Bearer {token}"}) as socket,
            sse(running.url, token) as stream,
        ):
            socket.until("event", "connected")
            stream.until("event", "message")
            assert running.stop() == (0, "")
            bye = socket.until("event", "bye")["data"]
            assert (bye["code"], bye["reconnect"]) == (4001, True)
            assert socket.until("closed")["closed"] == 4001
            assert stream.until("event", "bye")["data"]["code"] == 4001
            assert stream.until("error")["dead"] is False
            with here.serve("second") as again:
                answer = stream.until("event", "subscribed")["data"]
                assert (answer["resumed"], answer["why"]) == (False, "epoch")
                stream.until("event", "message")
                assert again.stop() == (0, "")
