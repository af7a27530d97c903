"""pyEmby: sessions by HTTP, then its socket at the root path."""

import asyncio
from urllib.parse import urlsplit

from pyemby.server import EmbyServer

from description import step, upstream


async def main():
    url, key = upstream("emby")
    parts = urlsplit(url)
    server = EmbyServer(parts.hostname, key, parts.port, parts.scheme == "https", asyncio.get_running_loop())
    received = asyncio.Queue()
    process = server.process_msg

    def watch(message):
        process(message)
        received.put_nowait(message)

    server.process_msg = watch
    await server.register()
    step("sessions by HTTP", server.sessions is not None and len(server.sessions) >= 1, len(server.sessions or []))
    step("devices", len(server.devices) >= 1, list(server.devices))
    for wanted in ["ForceKeepAlive", "Sessions"]:
        while f'"{wanted}"' not in (message := await asyncio.wait_for(received.get(), 10)):
            pass
        step(f"socket: {wanted}", key not in message)
    await server.stop()
    await server._api_session.close()

    wrong = EmbyServer(parts.hostname, "kg_wrong", parts.port, parts.scheme == "https", asyncio.get_running_loop())
    await wrong.register()
    step("a wrong key is refused", wrong.sessions is None)
    await wrong._api_session.close()


asyncio.run(asyncio.wait_for(main(), 60))
