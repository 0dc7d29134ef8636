// Drives the published JavaScript client by JSON lines: commands on stdin, what happened on stdout.
//
// The commands are those of clasp_peer.py and of ../published: see ../src/peer.rs.

import { createInterface } from 'node:readline';
import { Clasp } from '@clasp-to/core';
import { WebSocket } from 'ws';

globalThis.WebSocket ??= WebSocket;

// The client logs to the console; stdout belongs to the protocol.
for (const level of ['log', 'info', 'warn', 'debug']) console[level] = console.error;
const say = (line) => process.stdout.write(JSON.stringify(line) + '\n');

const fromJson = (value) => {
  if (value === null || typeof value !== 'object') return value;
  if (Array.isArray(value)) return value.map(fromJson);
  if (typeof value.$bytes === 'string') return Uint8Array.from(Buffer.from(value.$bytes, 'hex'));
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, fromJson(inner)]));
};

const toJson = (value) => {
  if (value === undefined) return null;
  if (value === null || typeof value !== 'object') return value;
  if (Array.isArray(value)) return value.map(toJson);
  if (value instanceof Uint8Array) return { $bytes: Buffer.from(value).toString('hex') };
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, toJson(inner)]));
};

let client;
const subscriptions = new Map();

const commands = {
  async connect({ url, name, token }) {
    client = new Clasp(url, { name, token, reconnect: true, reconnectInterval: 100 });
    client.onConnect(() => say({ connected: true }));
    client.onDisconnect(() => say({ disconnected: true }));
    await client.connect();
  },
  session: () => client.session,
  on({ pattern, options }) {
    const heard = (value, address) => say({ heard: toJson(value), address, pattern });
    subscriptions.set(pattern, client.on(pattern, heard, options));
  },
  off({ pattern }) {
    subscriptions.get(pattern)();
    subscriptions.delete(pattern);
  },
  set: ({ address, value }) => client.set(address, fromJson(value)),
  count({ address, to }) {
    for (let n = 1; n <= to; n += 1) client.set(address, n);
  },
  get: async ({ address }) => toJson(await client.get(address)),
  cached: ({ address }) => toJson(client.cached(address)),
  emit: ({ address, value }) => client.emit(address, fromJson(value)),
  stream: ({ address, value }) => client.stream(address, fromJson(value)),
  gesture: ({ address, id, phase, value }) => client.gesture(address, id, phase, fromJson(value)),
  bundle({ messages, in_ms: inMs }) {
    const at = inMs === undefined ? undefined : client.time() + inMs * 1000;
    client.bundle(messages.map(fromJson), at === undefined ? undefined : { at: Math.round(at) });
  },
  last_error: () => client.getLastError(),
  close: () => client.close(),
};

for await (const line of createInterface({ input: process.stdin })) {
  const { command, ...rest } = JSON.parse(line);
  try {
    const answer = await commands[command](rest);
    say({ done: command, answer: answer ?? null });
  } catch (error) {
    say({ failed: command, why: String(error?.message ?? error) });
  }
}
process.exit(0);
