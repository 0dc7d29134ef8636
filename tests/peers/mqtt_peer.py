"""paho as a peer: mqtt_peer.py PORT VERSION [PASSWORD [EXPIRY [MORE]]]. Obeys lines of JSON:
{"subscribe": FILTER, "qos": n, "identifier"?: n}, {"ack": n}, {"die": true},
{"publish": TOPIC, "payload": text, "times"?: n, "qos": n, "retain": bool,
"properties"?: {NAME: value}}. With EXPIRY, in seconds, its session outlives its connection.
MORE is JSON: "name", "keep_alive" (seconds), "clean", "manual" (acknowledges only by ack),
"will_delay" (seconds), "properties" of CONNECT. Prints what happens, a JSON line each.
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
more = json.loads(sys.argv[5]) if len(sys.argv) > 5 else {}
name = more.get("name", f"paho-{version}")
clean = {} if version == 5 else {"clean_session": expiry == 0}
client = mqtt.Client(
    mqtt.CallbackAPIVersion.VERSION2, client_id=name, protocol=version,
    manual_ack=more.get("manual", False), **clean
)
if password:
    client.username_pw_set("paho", password)


def properties_of(kind, values):
    properties = Properties(kind)
    for key, value in values.items():
        if key == "CorrelationData":
            value = value.encode()
        if key == "UserProperty":
            value = [tuple(pair) for pair in value]
        setattr(properties, key, value)
    return properties


will = {}
if "will_delay" in more:
    delay = {"WillDelayInterval": more["will_delay"]}
    will = {"properties": properties_of(PacketTypes.WILLMESSAGE, delay)}
client.will_set("paho/status", "offline", qos=1, retain=True, **will)


def say(**line):
    print(json.dumps(line), flush=True)


def on_connect(client, userdata, flags, reason, properties):
    assigned = getattr(properties, "AssignedClientIdentifier", None)
    say(connected=not reason.is_failure, reason=str(reason), present=flags.session_present,
        assigned=assigned)


def on_subscribe(client, userdata, mid, reasons, properties):
    say(granted=[reason.value for reason in reasons])


def on_message(client, userdata, message):
    line = {"topic": message.topic, "payload": message.payload.decode(), "mid": message.mid}
    properties = message.properties.json() if version == 5 else {}
    say(qos=message.qos, retain=message.retain, properties=properties, **line)


def on_publish(client, userdata, mid, reason, properties):
    why = getattr(properties, "ReasonString", None)
    say(published=mid, code=reason.value, why=why)


def on_disconnect(client, userdata, flags, reason, properties):
    say(lost=str(reason))


client.on_connect, client.on_subscribe, client.on_message = on_connect, on_subscribe, on_message
client.on_publish, client.on_disconnect = on_publish, on_disconnect
connect = {}
if version == 5:
    values = {"SessionExpiryInterval": expiry} if expiry else {}
    values = {**values, **more.get("properties", {})}
    connect["properties"] = properties_of(PacketTypes.CONNECT, values)
    connect["clean_start"] = more.get("clean", expiry == 0)
client.connect("127.0.0.1", port, keepalive=more.get("keep_alive", 30), **connect)
client.loop_start()
for line in sys.stdin:
    command = json.loads(line)
    if "subscribe" in command:
        beside = {}
        if "identifier" in command:
            identifier = {"SubscriptionIdentifier": command["identifier"]}
            beside["properties"] = properties_of(PacketTypes.SUBSCRIBE, identifier)
        options = {"qos": command["qos"]}
        if beside:
            options = {"options": mqtt.SubscribeOptions(qos=command["qos"])}
        client.subscribe(command["subscribe"], **options, **beside)
    elif "publish" in command:
        beside = {}
        if "properties" in command:
            values = command["properties"]
            beside["properties"] = properties_of(PacketTypes.PUBLISH, values)
        payload, qos, retain = command["payload"], command["qos"], command["retain"]
        client.publish(command["publish"], payload * command.get("times", 1), qos, retain, **beside)
    elif "ack" in command:
        client.ack(command["ack"], 1)
    else:
        os._exit(1)
client.disconnect()
client.loop_stop()
