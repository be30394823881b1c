// Node's `ws`: send the same buffer to each.
import { createRequire } from "node:module";
import { READY, obey, text } from "./common.mjs";

const { WebSocketServer } = createRequire(process.env.NODE_MODULES + "/")("ws");
const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: false, backlog: 4096 });
const data = Buffer.from(text);

server.on("connection", (client) => client.send(READY));
server.on("listening", () =>
  obey(server.address().port, () => {
    for (const client of server.clients) client.send(data, { binary: false });
  }),
);
