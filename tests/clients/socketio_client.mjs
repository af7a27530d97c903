// socket.io-client: a WebSocket at once, polling that becomes one, and polling alone, each with the key in its `auth` event.
import { readFileSync } from 'node:fs';
import { io } from 'socket.io-client';

const step = (name, isRight, seen) => {
  console.log(`${isRight ? 'ok  ' : 'FAIL'} ${name}${seen === undefined ? '' : `: ${seen}`}`);
  if (!isRight) process.exit(1);
};

const described = JSON.parse(readFileSync(process.argv[2] ?? 0, 'utf8')).upstreams.find((one) => one.kind === 'audiobookshelf');
const url = described.gateway_url;
const item = '7f1d2b7e-0f63-4c0c-8a55-6a1b34c9d3f0';

const event = (socket, name) => new Promise((resolve, reject) => {
  const timer = setTimeout(() => reject(new Error(`no ${name} within 10 s`)), 10_000);
  socket.once(name, (data) => {
    clearTimeout(timer);
    resolve(data);
  });
});

for (const transports of [['websocket'], ['polling', 'websocket'], ['polling']]) {
  const name = transports.join(', then ');
  const socket = io(url, { transports, reconnection: false });
  await event(socket, 'connect');
  const known = event(socket, 'init');
  socket.emit('auth', described.key);
  step(`${name}: init`, (await known).username === 'alice');
  const progress = event(socket, 'user_item_progress_updated');
  const user = event(socket, 'user_updated');
  const changed = await fetch(`${url}/api/me/progress/${item}`, {
    method: 'PATCH', body: JSON.stringify({ currentTime: 13 }),
    headers: { Authorization: `Bearer ${described.key}`, 'Content-Type': 'application/json' },
  });
  step(`${name}: progress changed`, changed.status === 200, changed.status);
  step(`${name}: event`, (await progress).data.currentTime === 13, socket.io.engine.transport.name);
  const updated = await user;
  step(`${name}: the user's event has no token`, updated.username === 'alice' && !updated.token);
  socket.disconnect();
}

const socket = io(url, { transports: ['websocket'], reconnection: false });
await event(socket, 'connect');
const failed = event(socket, 'auth_failed');
socket.emit('auth', 'kg_wrong');
step('a wrong key is refused', Boolean((await failed).message));
process.exit(0);
