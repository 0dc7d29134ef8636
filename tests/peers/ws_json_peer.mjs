// A program that speaks WebSocket and JSON, of npm `ws`: `URL [ORIGIN]` connects,
// `serve [CERT KEY]` listens, with these PEM files over TLS.
// A line of its input is a message, `hex:00ff` a binary one; what it gets it prints.
import { WebSocket, WebSocketServer } from "ws";
import { createServer } from "node:https";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";

const [, , where, origin, key] = process.argv;
let socket;

function use(it) {
  socket = it;
  it.on("open", () => console.log("open"));
  it.on("message", (data, binary) => console.log(binary ? `hex:${data.toString("hex")}` : `${data}`));
  it.on("close", (code, reason) => console.log(`closed ${code} ${reason}`));
  it.on("error", (error) => console.log(`error ${error.message}`));
}

if (where === "serve") {
  const tls = origin && createServer({ cert: readFileSync(origin), key: readFileSync(key) });
  const server = new WebSocketServer(tls ? { server: tls } : { host: "127.0.0.1", port: 0 });
  tls?.listen(0, "127.0.0.1");
  server.on("listening", () => console.log(`listening ${(tls || server).address().port}`));
  server.on("connection", (it) => {
    use(it);
    console.log("open");
  });
} else {
  use(new WebSocket(where, origin ? { origin } : {}));
}

createInterface({ input: process.stdin }).on("line", (line) => {
  socket.send(line.startsWith("hex:") ? Buffer.from(line.slice(4), "hex") : line);
}).on("close", () => process.exit(0));
