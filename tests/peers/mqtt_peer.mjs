// MQTT.js as a peer: mqtt_peer.mjs PORT VERSION (4 or 5). Subscribes to js/#, then publishes at each
// quality of service and prints what it hears, a JSON line each; ends with its input.
import mqtt from 'mqtt';

const [port, version] = process.argv.slice(2).map(Number);
const say = (line) => console.log(JSON.stringify(line));
const will = { topic: 'js/status', payload: 'offline', qos: 1, retain: true };
const client = mqtt.connect({
  host: '127.0.0.1', port, protocolVersion: version, clientId: `js-${version}`, will,
});
client.on('error', (error) => say({ error: error.message }));
client.on('message', (topic, payload, packet) => {
  say({ topic, payload: payload.toString(), qos: packet.qos, retain: packet.retain });
});
client.on('connect', () => {
  client.subscribe('js/#', { qos: 2 }, (error, granted) => {
    say({ subscribed: granted.map(({ topic, qos }) => [topic, qos]), error: error?.message });
    let left = 3;
    for (const qos of [0, 1, 2]) {
      client.publish(`js/qos/${qos}`, JSON.stringify({ qos }), { qos, retain: true }, (error) => {
        if (error) say({ error: error.message });
        if (--left === 0) say({ published: true });
      });
    }
  });
});
process.stdin.resume();
process.stdin.on('end', () => client.end(false, {}, () => process.exit(0)));
