// An sACN source and a receiver, by npm's sacn, obeying JSON lines.
//
// | command | fields | answer |
// |---|---|---|
// | send | host, universe, priority, levels | done, after one packet |
// | listen | host, universes | done; then a line `universe` for each packet |

import { createInterface } from 'node:readline';
import { Receiver, Sender } from 'sacn';

const say = (line) => process.stdout.write(JSON.stringify(line) + '\n');
const senders = new Map();
const receivers = [];

// Slots with a number each, as the library has them.
const payload = (levels) => Object.fromEntries(levels.map((level, index) => [index + 1, level]));

const commands = {
  async send({ host, universe, priority, levels }) {
    if (!senders.has(universe)) {
      const options = { universe, iface: host, reuseAddr: true };
      senders.set(universe, new Sender(options));
    }
    await senders.get(universe).send({
      payload: payload(levels),
      sourceName: 'node',
      priority,
      useRawDmxValues: true,
    });
  },
  async listen({ host, universes }) {
    const receiver = new Receiver({ universes, iface: host, reuseAddr: true });
    receiver.on('packet', ({ universe, priority, sourceName, payloadAsBuffer }) => {
      const levels = [...(payloadAsBuffer ?? [])];
      say({ universe, priority, source: sourceName, levels });
    });
    for (const fault of ['PacketCorruption', 'PacketOutOfOrder', 'error']) {
      receiver.on(fault, (why) => say({ fault, why: String(why) }));
    }
    receivers.push(receiver);
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  await commands[command.command](command);
  say({ done: command.command });
}
