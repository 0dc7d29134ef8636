"""paho as a peer: mqtt_peer.py PORT VERSION [PASSWORD]. Obeys lines of JSON on its input:
{"subscribe": FILTER, "qos": n}, {"publish": TOPIC, "payload": text, "qos": n, "retain": bool}, {"die": true}.
Prints what happens, a JSON line each.
"""

import json
import os
import sys

import paho.mqtt.client as mqtt

port, version = int(sys.argv[1]), int(sys.argv[2])
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=f"paho-{version}", protocol=version)
if len(sys.argv) > 3:
    client.username_pw_set("paho", sys.argv[3])
client.will_set("paho/status", "offline", qos=1, retain=True)


def say(**line):
    print(json.dumps(line), flush=True)


def on_connect(client, userdata, flags, reason, properties):
    say(connected=not reason.is_failure, reason=str(reason))


def on_subscribe(client, userdata, mid, reasons, properties):
    say(granted=[reason.value for reason in reasons])


def on_message(client, userdata, message):
    payload = message.payload.decode()
    say(topic=message.topic, payload=payload, qos=message.qos, retain=message.retain)


client.on_connect, client.on_subscribe, client.on_message = on_connect, on_subscribe, on_message
client.on_publish = lambda client, userdata, mid, reason, properties: say(published=mid)
client.on_disconnect = lambda client, userdata, flags, reason, properties: say(lost=str(reason))
client.connect("127.0.0.1", port, keepalive=30)
client.loop_start()
for line in sys.stdin:
    command = json.loads(line)
    if "subscribe" in command:
        client.subscribe(command["subscribe"], qos=command["qos"])
    elif "publish" in command:
        client.publish(command["publish"], command["payload"], command["qos"], command["retain"])
    else:
        os._exit(1)
client.disconnect()
client.loop_stop()
