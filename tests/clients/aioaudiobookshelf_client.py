"""aioaudiobookshelf in token mode: authorize, library, item, playback."""

import asyncio

import aiohttp
import aioaudiobookshelf
from aioaudiobookshelf.client.session_configuration import SessionConfiguration
from aioaudiobookshelf.exceptions import LoginError
from aioaudiobookshelf.schema.calls_items import PlaybackSessionParameters
from aioaudiobookshelf.schema.session import DeviceInfo

from description import step, upstream


async def main():
    url, key = upstream("audiobookshelf")
    async with aiohttp.ClientSession() as session:
        config = SessionConfiguration(session=session, url=url, token=key)
        client = await aioaudiobookshelf.get_user_client_by_token(session_config=config)
        step("authorize", bool(client.user.username), client.user.username)
        libraries = await client.get_all_libraries()
        step("libraries", [library.name for library in libraries] == ["Books"])
        pages = [page async for page in client.get_library_items(library_id=libraries[0].id_)]
        titles = [item.media.metadata.title for page in pages for item in page.results]
        step("items", titles == ["A Sweep of Sines", "The Long Pattern"], titles)
        book = await client.get_library_item_book(book_id=pages[0].results[0].id_, expanded=True)
        step("item", book.media.metadata.title == titles[0] and len(book.media.tracks) == 1)
        wishes = PlaybackSessionParameters(
            device_info=DeviceInfo(device_id="keygate-test", client_name="keygate-test", client_version="1"),
            force_direct_play=True, force_transcode=False, supported_mime_types=["audio/wav"], media_player="test",
        )
        playing = await client.get_playback_session(item_id=book.id_, session_parameters=wishes)
        track = playing.audio_tracks[0].content_url
        step("play", track.startswith("/api/items/"), track)
        headers = {"Authorization": f"Bearer {key}", "Range": "bytes=0-11"}
        async with session.get(url + track, headers=headers) as answer:
            step("range of the file", answer.status == 206 and (await answer.read())[8:] == b"WAVE")
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
