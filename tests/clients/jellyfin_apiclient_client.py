"""jellyfin-apiclient-python with a key as its token, its socket included."""

import queue

from jellyfin_apiclient_python import JellyfinClient

from description import fetch, play, step, upstream


def connect(url, key):
    client = JellyfinClient(allow_multiple_clients=True)
    client.config.app("keygate-test", "1.0.0", "test machine", "keygate-test-device")
    client.config.data["auth.ssl"] = url.startswith("https")
    client.config.data["app.default"] = True
    client.authenticate({"Servers": [{"AccessToken": key, "address": url}]}, discover=False)
    client.config.data["auth.server"] = url
    client.config.data["auth.token"] = key
    return client


url, key = upstream("jellyfin")
client = connect(url, key)
me = client.jellyfin.get_user("Me")
step("who am I", bool(me["Name"]), me["Name"])
client.config.data["auth.user_id"] = me["Id"]
info = client.jellyfin.get_system_info_new()
step("system info", info["ProductName"] == "Jellyfin Server", info["Version"])
views = client.jellyfin.get_views()
step("views", [view["Name"] for view in views["Items"]] == ["Music"])
items = client.jellyfin.user_items(params={"Recursive": True})
step("items", [item["Name"] for item in items["Items"]] == ["A Sweep of Sines", "The Long Pattern"])
item = client.jellyfin.get_item(items["Items"][0]["Id"])
step("item", item["Name"] == "A Sweep of Sines")
playback = client.jellyfin.get_play_info(item["Id"], {})
source = playback["MediaSources"][0]
step("playback info", source["Container"] == "wav")
seconds, decoded = play(url + source["TranscodingUrl"])
step("transcode by URL alone", seconds == 30 and 29 < decoded < 31, decoded)
subtitles = next(stream["DeliveryUrl"] for stream in source["MediaStreams"] if stream["Type"] == "Subtitle")
status, body = fetch(url + subtitles)
step("subtitles by URL alone", status == 200 and body.startswith(b"WEBVTT"))
status, body = fetch(client.jellyfin.audio_url(item["Id"]))
step("stream by the client's own URL", status == 200 and body[:4] == b"RIFF", len(body))

messages = queue.Queue()
client.callback = lambda name, data: messages.put((name, data))
client.wsc.callback = client.callback
client.wsc.start()
name, _ = messages.get(timeout=10)
step("socket opened", name == "WebSocketConnect", name)
for _ in range(200):
    if client.wsc.keepalive is not None:
        break
    client.wsc.join(0.05)
step("socket: ForceKeepAlive", client.wsc.keepalive is not None)
client.wsc.send("SessionsStart", "0,1500")
name, data = messages.get(timeout=10)
step("socket: Sessions", name == "Sessions" and len(data["value"]) >= 1, name)
client.wsc.stop_client()

form = JellyfinClient(allow_multiple_clients=True)
form.config.app("keygate-test", "1.0.0", "test machine", "keygate-test-form")
form.config.data["auth.ssl"] = url.startswith("https")
form.config.data["app.default"] = True
form.auth.connect_to_address(url)
logged_in = form.auth.login(url, "anybody", key)
step("login form with the key as the password", logged_in.get("AccessToken") == key, logged_in.get("User", {}).get("Name"))
step("the form's session works", form.jellyfin.get_user("Me")["Id"] == me["Id"])

refused = connect(url, "kg_wrong")
try:
    refused.jellyfin.get_user("Me")
    step("a wrong key is refused", False)
except Exception as error:
    step("a wrong key is refused", True, type(error).__name__)
