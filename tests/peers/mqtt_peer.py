"""paho as a peer: mqtt_peer.py PORT VERSION [PASSWORD [EXPIRY]]. Obeys lines of JSON on its input:
{"subscribe": FILTER, "qos": n}, {"publish": TOPIC, "payload": text, "qos": n, "retain": bool}, {"die": true}.
With EXPIRY, in seconds, its session outlives its connection. Prints what happens, a JSON line each.
"""

import json
import os
import sys

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

port, version = int(sys.argv[1]), int(sys.argv[2])
password = sys.argv[3] if len(sys.argv) > 3 else ""
expiry = int(sys.argv[4]) if len(sys.argv) > 4 else 0
clean = {} if version == 5 else {"clean_session": expiry == 0}
client = mqtt.Client(
    mqtt.CallbackAPIVersion.VERSION2, client_id=f"paho-{version}", protocol=version, **clean
)
if password:
    client.username_pw_set("paho", password)
client.will_set("paho/status", "offline", qos=1, retain=True)


def say(**line):
    print(json.dumps(line), flush=True)


def on_connect(client, userdata, flags, reason, properties):
    say(connected=not reason.is_failure, reason=str(reason), present=flags.session_present)


def on_subscribe(client, userdata, mid, reasons, properties):
    say(granted=[reason.value for reason in reasons])


def on_message(client, userdata, message):
    payload = message.payload.decode()
    say(topic=message.topic, payload=payload, qos=message.qos, retain=message.retain)


def on_publish(client, userdata, mid, reason, properties):
    why = getattr(properties, "ReasonString", None)
    say(published=mid, code=reason.value, why=why)


client.on_connect, client.on_subscribe, client.on_message = on_connect, on_subscribe, on_message
client.on_publish = on_publish
client.on_disconnect = lambda client, userdata, flags, reason, properties: say(lost=str(reason))
more = {}
if version == 5 and expiry:
    properties = Properties(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = expiry
    more = {"clean_start": False, "properties": properties}
client.connect("127.0.0.1", port, keepalive=30, **more)
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
