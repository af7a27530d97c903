"""python-socketio by itself: a WebSocket at once, and polling that becomes one, each with the key in its `auth` event."""

import asyncio
import json
import random
import urllib.request

import socketio

from description import step, upstream


async def listen(url, key, transports, name):
    client = socketio.AsyncClient(reconnection=False)
    known, progress = asyncio.get_running_loop().create_future(), asyncio.Queue()
    client.on("init", lambda who: known.done() or known.set_result(who))
    client.on("auth_failed", lambda why: known.done() or known.set_result(why))
    client.on("user_updated", progress.put)
    await client.connect(url, transports=transports)
    await client.emit("auth", key)
    who = await asyncio.wait_for(known, 10)
    step(f"{name}: init", who.get("username") == "alice", who)
    # Other scripts change the same user's progress at the same time.
    mine = random.randrange(1_000_000)
    await asyncio.to_thread(change_progress, url, key, mine)
    user = await asyncio.wait_for(awaited(progress, mine), 10)
    step(f"{name}: event, without a token", not user["token"], client.transport())
    await client.disconnect()


async def awaited(users, mine):
    while True:
        user = await users.get()
        if user["mediaProgress"][0]["currentTime"] == mine:
            return user


def change_progress(url, key, seconds):
    item = "7f1d2b7e-0f63-4c0c-8a55-6a1b34c9d3f0"
    change = urllib.request.Request(
        f"{url}/api/me/progress/{item}", method="PATCH", data=json.dumps({"currentTime": seconds}).encode(),
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(change, timeout=20) as answer:
        answer.read()


async def refused(url, transports, name):
    client = socketio.AsyncClient(reconnection=False)
    why = asyncio.get_running_loop().create_future()
    client.on("auth_failed", lambda told: why.done() or why.set_result(told))
    await client.connect(url, transports=transports)
    await client.emit("auth", "kg_wrong")
    told = await asyncio.wait_for(why, 10)
    step(f"{name}: a wrong key is refused", "message" in told, told)
    await client.disconnect()


async def main():
    url, key = upstream("audiobookshelf")
    await listen(url, key, ["websocket"], "websocket only")
    await listen(url, key, ["polling", "websocket"], "polling first")
    await listen(url, key, ["polling"], "polling only")
    await refused(url, ["websocket"], "websocket only")
    await refused(url, ["polling"], "polling only")


asyncio.run(main())
