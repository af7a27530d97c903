"""jellyfin-api-client with its default `Authorization: Bearer`, which Jellyfin itself ignores."""

from jellyfin_api_client import AuthenticatedClient
from jellyfin_api_client.api.items import get_items
from jellyfin_api_client.api.media_info import get_playback_info
from jellyfin_api_client.api.user import get_current_user
from jellyfin_api_client.api.user_views import get_user_views

from description import step, upstream

url, key = upstream("jellyfin")
# httpx speaks HTTP/2 when it is told to, and only over TLS.
args = {"http2": url.startswith("https")}
client = AuthenticatedClient(base_url=url, token=key, httpx_args=args)
me = get_current_user.sync(client=client)
step("who am I", me is not None and bool(me.name), me and me.name)
views = get_user_views.sync(client=client, user_id=me.id)
step("views", [view.name for view in views.items] == ["Music"])
items = get_items.sync(client=client, user_id=me.id, recursive=True)
step("items", [item.name for item in items.items] == ["A Sweep of Sines", "The Long Pattern"])
info = get_playback_info.sync(items.items[0].id, client=client, user_id=me.id)
step("playback info", info.media_sources[0].container == "wav")
answer = client.get_httpx_client().get(f"/Items/{items.items[0].id}/Download", headers={"Range": "bytes=0-11"})
step("range of the file", answer.status_code == 206 and answer.content[8:] == b"WAVE", answer.status_code)
refused = get_current_user.sync_detailed(client=AuthenticatedClient(base_url=url, token="kg_wrong", httpx_args=args))
step("a wrong key is refused", refused.status_code == 401, int(refused.status_code))
