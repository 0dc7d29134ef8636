// The published server of Socket.IO: `PORT [TRANSPORTS [FOLDER]]`; port 0 is any, FOLDER has the
// certificate of HTTPS. It acknowledges what asks for it with {"took": the first argument}, except
// events that begin with `hold`. `/ctl` lets in only {"token": "right"}.
// A line of its input is `{"emit": "event", "with": [..], "ack": true, "to": "/"}`, or
// `{"close": true}`: every client is sent away. What it gets it prints.
// Buffers are {"$bytes": "00ff"} on both sides.
import { Server } from "socket.io";
import { createServer } from "node:http";
import { createServer as createSecureServer } from "node:https";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";

const [, , port, transports = "polling,websocket", folder] = process.argv;
const print = (object) => console.log(JSON.stringify(object));

function out(value) {
  if (Buffer.isBuffer(value)) return { $bytes: value.toString("hex") };
  if (Array.isArray(value)) return value.map(out);
  if (value && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, out(inner)]));
  }
  return value;
}

function into(value) {
  if (value && typeof value === "object" && typeof value.$bytes === "string") {
    return Buffer.from(value.$bytes, "hex");
  }
  if (Array.isArray(value)) return value.map(into);
  if (value && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, into(inner)]));
  }
  return value;
}

const file = (name) => readFileSync(`${folder}/${name}`);
const http = folder
  ? createSecureServer({ cert: file("server.pem"), key: file("server.key") })
  : createServer();
const io = new Server(http, { transports: transports.split(","), pingInterval: 500 });
io.engine.on("connection", (raw) => {
  print({ opened: raw.transport.name, query: raw.request._query });
  raw.on("upgrade", (transport) => print({ upgraded: transport.name }));
  raw.on("close", (reason) => print({ closed: reason }));
});

function serve(socket) {
  print({ joined: socket.nsp.name, transport: socket.conn.transport.name });
  socket.onAny((event, ...rest) => {
    const ack = typeof rest.at(-1) === "function" ? rest.pop() : undefined;
    print({ event, with: out(rest), asks: ack !== undefined });
    if (!event.startsWith("hold")) ack?.({ took: rest[0] });
  });
  socket.on("disconnect", (reason) => print({ left: reason }));
}

io.on("connection", serve);
io.of("/ctl").use((socket, next) => {
  const { token } = socket.handshake.auth;
  print({ asked: token ?? null });
  next(token === "right" ? undefined : new Error("nope"));
});
io.of("/ctl").on("connection", serve);

http.listen(Number(port), "127.0.0.1", () => print({ listening: http.address().port }));

createInterface({ input: process.stdin }).on("line", (line) => {
  const { emit, with: rest = [], ack, close, to = "/" } = JSON.parse(line);
  for (const socket of io.of(to).sockets.values()) {
    if (close) socket.disconnect(true);
    else if (ack) socket.emit(emit, ...rest.map(into), (...told) => print({ ack: out(told) }));
    else socket.emit(emit, ...rest.map(into));
  }
}).on("close", () => process.exit(0));
