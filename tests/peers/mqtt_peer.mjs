// MQTT.js as a peer: mqtt_peer.mjs PORT VERSION (4 or 5) [JSON]. Subscribes to js/#, then publishes
// at each quality of service and prints what it hears, a JSON line each; ends with its input.
// The JSON may hold `url` and `ca` (a PEM file) to connect otherwise, `properties` of CONNECT, `options`
// of the library, and `times`, how often js/again/and/again is published besides.
import { readFileSync } from 'node:fs';
import mqtt from 'mqtt';

const [port, version] = process.argv.slice(2, 4).map(Number);
const { url, ca, properties, options, times } = JSON.parse(process.argv[4] ?? '{}');
const say = (line) => console.log(JSON.stringify(line));
const will = { topic: 'js/status', payload: 'offline', qos: 1, retain: true };
const all = {
  protocolVersion: version, clientId: `js-${version}`, will, properties, ...options,
  ...(ca ? { ca: readFileSync(ca) } : {}),
};
const client = url ? mqtt.connect(url, all) : mqtt.connect({ host: '127.0.0.1', port, ...all });
client.on('error', (error) => say({ error: error.message }));
client.on('message', (topic, payload, packet) => {
  say({ topic, payload: payload.toString(), qos: packet.qos, retain: packet.retain });
});
client.on('connect', () => {
  client.subscribe('js/#', { qos: 2 }, (error, granted) => {
    say({ subscribed: granted.map(({ topic, qos }) => [topic, qos]), error: error?.message });
    let left = 3 + (times ?? 0);
    const done = (error) => {
      if (error) say({ error: error.message });
      if (--left === 0) say({ published: true });
    };
    for (const qos of [0, 1, 2]) {
      client.publish(`js/qos/${qos}`, JSON.stringify({ qos }), { qos, retain: true }, done);
    }
    for (let number = 0; number < (times ?? 0); number++) {
      client.publish('js/again/and/again', `${number}`, { qos: 1 }, done);
    }
  });
});
process.stdin.resume();
process.stdin.on('end', () => client.end(false, {}, () => process.exit(0)));
