// The pages' own client in Node: what happens is told on stdout, one JSON object a line.
//
//   node live.mjs URL OPTIONS    OPTIONS is JSON: LiveClient's, plain: true for no WebSocket at all, and
//                                hurry: how many times faster than ours the client's clock runs,
//                                beyond: only for what it waits for longer than these ms
//
// A line on stdin calls it: {"event": method, "data": [arguments]}; {"event": "document"} tells the document,
// {"event": "sleep", "data": seconds} is a sleep in which performance.now() stood still, and the waking up.
import { createInterface } from "node:readline";
import WebSocket from "ws";
import { LiveClient } from "../../amiga_ws/static/client.js";

const tell = (what) => process.stdout.write(JSON.stringify(what) + "\n");
const [base, given] = process.argv.slice(2);
const { plain, hurry = 1, beyond = 0, ...options } = JSON.parse(given);
if (plain) delete globalThis.WebSocket;
const { setTimeout } = globalThis;
globalThis.setTimeout = (action, ms, ...more) => setTimeout(action, ms > beyond ? ms / hurry : ms, ...more);
const now = performance.now.bind(performance);
performance.now = () => now() * hurry;

const client = new LiveClient({ base, WebSocket: plain ? undefined : WebSocket, ...options });

client.addEventListener("state", ({ detail }) => {
  tell({ ...detail, wait: detail.retryAt && detail.retryAt - performance.now() });
});
client.addEventListener("frame", ({ detail }) => tell({ frame: detail.event, direction: detail.direction, data: detail.data }));
client.addEventListener("notice", ({ detail }) => tell({ notice: detail.kind, data: detail.data }));
client.addEventListener("snapshot", ({ detail }) => {
  tell({ snapshot: detail.event, position: detail.snapshot.position, total: detail.snapshot.overview.tasks?.total });
});
process.on("uncaughtException", (error) => tell({ uncaught: String(error.stack) }));

createInterface({ input: process.stdin }).on("line", async (line) => {
  const { event, data } = JSON.parse(line);
  if (event === "document") tell({ document: client.snapshot, polluted: {}.polluted ?? null });
  else if (event === "sleep") {
    const awake = Date.now;
    Date.now = () => awake() + data * 1000;
    client.wake();
  } else tell({ answer: event, value: (await client[event](...data)) ?? null });
});
client.start();
