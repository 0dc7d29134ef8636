// The published client of Socket.IO: `URL TRANSPORTS [TOKEN]`, TRANSPORTS with commas between.
// A line of its input is `{"emit": "event", "with": [..], "ack": true}`; what it gets it prints.
// Buffers are {"$bytes": "00ff"} on both sides.
import { io } from "socket.io-client";
import { createInterface } from "node:readline";

const [, , url, transports, token] = process.argv;
const print = (object) => console.log(JSON.stringify(object));

function out(value) {
  if (Buffer.isBuffer(value) || value instanceof Uint8Array) {
    return { $bytes: Buffer.from(value).toString("hex") };
  }
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

const socket = io(url, { transports: transports.split(","), auth: token ? { token } : {} });
socket.on("connect", () => print({ connected: socket.io.engine.transport.name }));
socket.io.engine.on("upgrade", (transport) => print({ upgraded: transport.name }));
socket.on("connect_error", (error) => {
  print({ refused: error.message });
  socket.close();
});
socket.on("disconnect", (reason) => print({ left: reason }));
socket.onAny((event, ...rest) => print({ event, with: out(rest) }));

createInterface({ input: process.stdin }).on("line", (line) => {
  const { emit, with: rest = [], ack } = JSON.parse(line);
  const last = ack ? [(...answer) => print({ ack: out(answer) })] : [];
  socket.emit(emit, ...rest.map(into), ...last);
}).on("close", () => process.exit(0));
