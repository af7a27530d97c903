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

const event = (socket, name, isWanted = () => true) => new Promise((resolve, reject) => {
  const timer = setTimeout(() => reject(new Error(`no ${name} within 10 s`)), 10_000);
  const hear = (data) => {
    if (!isWanted(data)) return;
    clearTimeout(timer);
    socket.off(name, hear);
    resolve(data);
  };
  socket.on(name, hear);
});

for (const transports of [['websocket'], ['polling', 'websocket'], ['polling']]) {
  const name = transports.join(', then ');
  const socket = io(url, { transports, reconnection: false });
  await event(socket, 'connect');
  const known = event(socket, 'init');
  socket.emit('auth', described.key);
  step(`${name}: init`, (await known).username === 'alice');
  // Other scripts change the same user's progress at the same time.
  const mine = Math.floor(Math.random() * 1e6);
  const user = event(socket, 'user_updated', (data) => data.mediaProgress[0].currentTime === mine);
  const changed = await fetch(`${url}/api/me/progress/${item}`, {
    method: 'PATCH', body: JSON.stringify({ currentTime: mine }),
    headers: { Authorization: `Bearer ${described.key}`, 'Content-Type': 'application/json' },
  });
  step(`${name}: progress changed`, changed.status === 200, changed.status);
  const updated = await user;
  step(`${name}: event, without a token`, updated.username === 'alice' && !updated.token, socket.io.engine.transport.name);
  socket.disconnect();
}

const socket = io(url, { transports: ['websocket'], reconnection: false });
await event(socket, 'connect');
const failed = event(socket, 'auth_failed');
socket.emit('auth', 'kg_wrong');
step('a wrong key is refused', Boolean((await failed).message));
process.exit(0);
