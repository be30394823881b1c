// A WebSocket client on the npm package `ws`: what happens is told on stdout, one JSON object a line.
//
//   node ws.mjs URL OPTIONS    OPTIONS is JSON: protocols[], headers{}, origin
//
// Lines of stdin are sent as they come. `document` is what the patches, applied by fast-json-patch, have made.
import { createInterface } from "node:readline";
import jsonPatch from "fast-json-patch";
import WebSocket from "ws";

const tell = (what) => process.stdout.write(JSON.stringify(what) + "\n");
const [url, given] = process.argv.slice(2);
const { protocols = [], headers = {}, origin } = JSON.parse(given);
const socket = new WebSocket(url, protocols, { headers, origin, perMessageDeflate: false });

let base = null;
let position = null;

function document({ event, data }) {
  if (event === "metrics_update") {
    base = structuredClone(data);
    delete base.timestamp;
    delete base.position;
  } else if (event === "metrics_patch") {
    if (data.from !== position) throw new Error(`a patch from ${data.from}, and ${position} is here`);
    base = jsonPatch.applyPatch(base, data.patch, true).newDocument;
  } else {
    return undefined;
  }
  position = data.position;
  return base;
}

socket.on("open", () => tell({ open: socket.protocol }));
socket.on("message", (raw) => {
  const message = JSON.parse(raw);
  tell({ ...message, document: document(message) });
});
socket.on("ping", (payload) => tell({ ping: payload.length }));
socket.on("unexpected-response", (request, reply) => {
  let body = "";
  reply.on("data", (piece) => (body += piece));
  reply.on("end", () => {
    tell({ refused: reply.statusCode, challenge: reply.headers["www-authenticate"], body: JSON.parse(body) });
    process.exit();
  });
});
socket.on("error", (error) => tell({ failed: error.message }));
socket.on("close", (code, reason) => {
  tell({ closed: code, reason: reason.toString() });
  process.exit();
});
createInterface({ input: process.stdin }).on("line", (line) => socket.send(line));
