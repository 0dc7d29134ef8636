// An Art-Net node and sender, by npm's dmxnet, obeying JSON lines.
//
// | command | fields | answer |
// |---|---|---|
// | listen | universe | done, when it is a node that lists it; then a line `levels` for each packet |
// | send | host, universe, levels | done, after one packet; repeated every second |

import { createInterface } from 'node:readline';
import { dmxnet } from 'dmxnet';

const say = (line) => process.stdout.write(JSON.stringify(line) + '\n');
const node = new dmxnet({ sName: 'dmxnet', log: { silent: true } });
const senders = new Map();

const commands = {
  listen({ universe }) {
    const receiver = node.newReceiver({ net: 0, subnet: 0, universe });
    receiver.on('data', (levels) => say({ levels }));
  },
  send({ host, universe, levels }) {
    if (!senders.has(universe)) {
      senders.set(universe, node.newSender({ ip: host, net: 0, subnet: 0, universe }));
    }
    const sender = senders.get(universe);
    levels.forEach((level, slot) => sender.prepChannel(slot, level));
    sender.transmit();
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  commands[command.command](command);
  say({ done: command.command });
}
