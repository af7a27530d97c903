"""aioaudiobookshelf in password mode: the login form with a key as the password, refresh, socket, logout."""

import asyncio

import aiohttp
import aioaudiobookshelf
from aioaudiobookshelf.client.session_configuration import SessionConfiguration
from aioaudiobookshelf.exceptions import LoginError

from description import step, upstream


async def main():
    url, key = upstream("audiobookshelf")
    async with aiohttp.ClientSession() as session:
        config = SessionConfiguration(session=session, url=url)
        client, socket = await aioaudiobookshelf.get_user_and_socket_client(session_config=config, username="anybody", password=key)
        step("login", client.user.username == "alice", client.user.username)
        step("the key is every token", {config.access_token, config.refresh_token} == {key})
        libraries = await client.get_all_libraries()
        step("libraries", [library.name for library in libraries] == ["Books"])
        await client.refresh()
        step("refresh", {config.access_token, config.refresh_token} == {key})
        config.access_token = "an-access-token-that-has-expired"
        libraries = await client.get_all_libraries()
        step("a 401 leads to a refresh and to the answer", len(libraries) == 1 and config.access_token == key)
        await socket.init_client()
        step("socket: connected", socket.client.connected)
        await socket.shutdown()
        await client.logout()
        config.access_token = key
        step("logout ends nothing that others share", len(await client.get_all_libraries()) == 1)
        try:
            wrong = SessionConfiguration(session=session, url=url)
            await aioaudiobookshelf.get_user_client(session_config=wrong, username="alice", password="kg_wrong")
        except LoginError:
            step("a wrong key is a wrong password", True)
        else:
            step("a wrong key is a wrong password", False)


asyncio.run(main())
