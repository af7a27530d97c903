"""embyclient, the generated SDK: `api_key` in the query, base path /emby."""

import emby_client
from emby_client.rest import ApiException

from description import fetch, play, step, upstream


def api(url, key):
    config = emby_client.Configuration()
    config.host = f"{url}/emby"
    config.api_key["api_key"] = key
    return emby_client.ApiClient(config)


url, key = upstream("emby")
client = api(url, key)
info = emby_client.SystemServiceApi(client).get_system_info()
step("system info", info.server_name == "Emby stand-in", info.version)
sessions = emby_client.SessionsServiceApi(client).get_sessions()
step("sessions", len(sessions) >= 1)
user = sessions[0].user_id
step("who am I", emby_client.UserServiceApi(client).get_users_by_id(user).name == sessions[0].user_name, sessions[0].user_name)
views = emby_client.UserViewsServiceApi(client).get_users_by_userid_views(user, False)
step("views", [view.name for view in views.items] == ["Music"])
items = emby_client.ItemsServiceApi(client).get_users_by_userid_items(user)
step("items", items.total_record_count == 2 and items.items[0].name == "A Sweep of Sines")
item = items.items[0].id
info = emby_client.MediaInfoServiceApi(client).get_items_by_id_playbackinfo(item, user)
source = info.media_sources[0]
step("playback info", source.container == "wav" and "master.m3u8" in source.transcoding_url)
status, body = fetch(f"{url}/emby{source.direct_stream_url}")
step("direct stream by URL alone", status == 200 and body[:4] == b"RIFF", len(body))
seconds, decoded = play(f"{url}/emby{source.transcoding_url}")
step("transcode by URL alone", seconds == 30 and 29 < decoded < 31, decoded)
subtitles = next(stream.delivery_url for stream in source.media_streams if stream.type == "Subtitle")
status, body = fetch(f"{url}/emby{subtitles}")
step("subtitles by URL alone", status == 200 and body.startswith(b"WEBVTT"))
try:
    emby_client.SessionsServiceApi(api(url, "kg_wrong")).get_sessions()
    step("a wrong key is refused", False)
except ApiException as refused:
    step("a wrong key is refused", refused.status == 401, refused.status)
