// Socket.IO's own server: one `emit` to all.
import { createRequire } from "node:module";
import { createServer } from "node:http";
import { READY, obey, text } from "./common.mjs";

const { Server } = createRequire(process.env.NODE_MODULES + "/")("socket.io");
const http = createServer();
const io = new Server(http, { transports: ["websocket"], pingInterval: 300_000 });
const message = JSON.parse(text);

io.on("connection", (client) => client.emit(READY));
http.listen({ host: "127.0.0.1", port: 0, backlog: 4096 }, () =>
  obey(http.address().port, () => io.emit(message.event, message.data)),
);
