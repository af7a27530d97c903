"""aioaudiobookshelf in token mode: authorize, library, item, playback with sync and close, socket."""

import asyncio

import aiohttp
import aioaudiobookshelf
from aioaudiobookshelf.client.session_configuration import SessionConfiguration
from aioaudiobookshelf.exceptions import LoginError
from aioaudiobookshelf.schema.calls_items import PlaybackSessionParameters
from aioaudiobookshelf.schema.calls_session import SyncOpenSessionParameters
from aioaudiobookshelf.schema.session import DeviceInfo

from description import step, upstream


async def play(client, session, url, book, key, transcode):
    """Opens a play session, as the apps do; its track's URL."""
    wishes = PlaybackSessionParameters(
        device_info=DeviceInfo(device_id="keygate-test", client_name="keygate-test", client_version="1"),
        force_direct_play=not transcode, force_transcode=transcode, supported_mime_types=["audio/wav"], media_player="test",
    )
    playing = await client.get_playback_session(item_id=book.id_, session_parameters=wishes)
    return playing, playing.audio_tracks[0].content_url


async def sync_and_close(client, playing):
    report = SyncOpenSessionParameters(current_time=3.0, time_listened=3.0, duration=30.0)
    await client.sync_open_session(session_id=playing.id_, parameters=report)
    await client.close_open_session(session_id=playing.id_)


async def synced_progress(client, playing, seen):
    """Syncs a play session until the socket tells of it: what comes before the server knows the socket's user is told to nobody."""
    report = SyncOpenSessionParameters(current_time=7.0, time_listened=1.0, duration=30.0)
    while True:
        await client.sync_open_session(session_id=playing.id_, parameters=report)
        try:
            return (await asyncio.wait_for(seen.get(), 0.3)).current_time
        except asyncio.TimeoutError:
            continue


async def receive_progress(client, socket, book, playing):
    """Events that a change of progress brings, the user's own data among them."""
    seen, user = asyncio.Queue(), asyncio.Queue()

    async def on_progress(_id, progress):
        await seen.put(progress)

    async def on_user(updated):
        await user.put(updated)

    socket.set_user_callbacks(on_user_updated=on_user, on_user_item_progress_updated=on_progress)
    await socket.init_client()
    step("socket: progress event", await asyncio.wait_for(synced_progress(client, playing, seen), 20) == 7)
    await client.update_my_media_progress(item_id=book.id_, duration_seconds=30, progress_seconds=9, is_finished=False)
    updated = await asyncio.wait_for(user.get(), 10)
    step("socket: the user's event has no token", updated.username == client.user.username and not updated.token)
    await socket.shutdown()


async def main():
    url, key = upstream("audiobookshelf")
    async with aiohttp.ClientSession() as session:
        config = SessionConfiguration(session=session, url=url, token=key)
        client, socket = await aioaudiobookshelf.get_user_and_socket_client_by_token(session_config=config)
        step("authorize", bool(client.user.username), client.user.username)
        libraries = await client.get_all_libraries()
        step("libraries", [library.name for library in libraries] == ["Books"])
        pages = [page async for page in client.get_library_items(library_id=libraries[0].id_)]
        titles = [item.media.metadata.title for page in pages for item in page.results]
        step("items", titles == ["A Sweep of Sines", "The Long Pattern"], titles)
        book = await client.get_library_item_book(book_id=pages[0].results[0].id_, expanded=True)
        step("item", book.media.metadata.title == titles[0] and len(book.media.tracks) == 1)
        playing, track = await play(client, session, url, book, key, transcode=False)
        step("play", track.startswith("/api/items/"), track)
        headers = {"Authorization": f"Bearer {key}", "Range": "bytes=0-11"}
        async with session.get(url + track, headers=headers) as answer:
            step("range of the file", answer.status == 206 and (await answer.read())[8:] == b"WAVE")
        # As apps do that can give no header to their player: the session's id is all that the URL has.
        async with session.get(f"{url}/public/session/{playing.id_}/track/1", headers={"Range": "bytes=0-11"}) as answer:
            step("track of the session by URL alone", answer.status == 206 and (await answer.read())[8:] == b"WAVE")
        await sync_and_close(client, playing)
        step("sync and close", True)
        playing, track = await play(client, session, url, book, key, transcode=True)
        step("transcode", track.startswith("/hls/"), track.rsplit("/", 1)[-1])
        async with session.get(url + track) as answer:
            step("playlist by URL alone", answer.status == 200 and (await answer.read()).startswith(b"#EXTM3U"))
        await receive_progress(client, socket, book, playing)
        await client.close_open_session(session_id=playing.id_)
        await client.logout()
        step("logout", True)
        wrong = SessionConfiguration(session=session, url=url, token="kg_wrong")
        try:
            await aioaudiobookshelf.get_user_client_by_token(session_config=wrong)
        except LoginError:
            step("a wrong key is refused", True)
        else:
            step("a wrong key is refused", False)


asyncio.run(main())
