// An OSC program by osc.js on one UDP port, obeying JSON lines:
//
// | command | fields | answer |
// |---|---|---|
// | open | port | done, listening on 127.0.0.1; then a line `heard` for each packet |
// | send | port, packet | done, after one packet as osc.js describes it |
//
// `heard` is a message { address, args } with typed arguments, or a bundle { timeTag, packets }.
import readline from "node:readline";
import osc from "osc";

const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");
let port;

const commands = {
  open: (command, done) => {
    port = new osc.UDPPort({ localAddress: "127.0.0.1", localPort: command.port, metadata: true });
    port.on("ready", done);
    port.on("osc", (packet) => say({ heard: packet }));
    port.on("error", (error) => say({ error: String(error) }));
    port.open();
  },
  send: (command, done) => {
    port.send(command.packet, "127.0.0.1", command.port);
    done();
  },
};

for await (const line of readline.createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  commands[command.command](command, () => say({ done: command.command }));
}
process.exit(0);
