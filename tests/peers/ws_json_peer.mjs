// A program that speaks WebSocket and JSON, of npm `ws`: `URL [ORIGIN]` connects, `serve` listens.
// A line of its input is a message, `hex:00ff` a binary one; what it gets it prints.
import { WebSocket, WebSocketServer } from "ws";
import { createInterface } from "node:readline";

const [, , where, origin] = process.argv;
let socket;

function use(it) {
  socket = it;
  it.on("open", () => console.log("open"));
  it.on("message", (data, binary) => console.log(binary ? `hex:${data.toString("hex")}` : `${data}`));
  it.on("close", (code, reason) => console.log(`closed ${code} ${reason}`));
  it.on("error", (error) => console.log(`error ${error.message}`));
}

if (where === "serve") {
  const server = new WebSocketServer({ host: "127.0.0.1", port: 0 });
  server.on("listening", () => console.log(`listening ${server.address().port}`));
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
