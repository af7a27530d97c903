// @jellyfin/sdk with a key as its token: who am I, views, items, playback info, stream, socket.
import { readFileSync } from 'node:fs';
import { Jellyfin } from '@jellyfin/sdk';
import { getLibraryApi } from '@jellyfin/sdk/lib/utils/api/library-api.js';
import { getMediaInfoApi } from '@jellyfin/sdk/lib/utils/api/media-info-api.js';
import { getSystemApi } from '@jellyfin/sdk/lib/utils/api/system-api.js';
import { getUserApi } from '@jellyfin/sdk/lib/utils/api/user-api.js';
import { getUserViewApi } from '@jellyfin/sdk/lib/utils/api/user-view-api.js';
import axios from 'axios';
import { Agent, setGlobalDispatcher } from 'undici';
import { WebSocket } from 'ws';

const step = (name, isRight, seen) => {
  console.log(`${isRight ? 'ok  ' : 'FAIL'} ${name}${seen === undefined ? '' : `: ${seen}`}`);
  if (!isRight) process.exit(1);
};

const described = JSON.parse(readFileSync(process.argv[2] ?? 0, 'utf8')).upstreams.find((one) => one.kind === 'jellyfin');
const jellyfin = new Jellyfin({
  clientInfo: { name: 'keygate test', version: '1.0.0' },
  deviceInfo: { name: 'A device, with a comma', id: 'keygate-test-sdk' },
});
const url = described.gateway_url;
// Both speak HTTP/2 when they are told to, and only over TLS.
const isSecure = url.startsWith('https:');
if (isSecure) setGlobalDispatcher(new Agent({ allowH2: true }));
const http = axios.create({ httpVersion: isSecure ? 2 : 1 });
const api = jellyfin.createApi(url, described.key, http);

const me = (await getUserApi(api).getCurrentUser()).data;
step('who am I', Boolean(me.Name), me.Name);
const system = (await getSystemApi(api).getSystemInfo()).data;
step('system info', system.ProductName === 'Jellyfin Server', system.Version);
const views = (await getUserViewApi(api).getUserViews({ userId: me.Id })).data;
step('views', views.Items[0].Name === 'Music');
const items = (await getLibraryApi(api).getItems({ userId: me.Id, recursive: true })).data;
step('items', items.TotalRecordCount === 2 && items.Items[0].Name === 'A Sweep of Sines');
const info = (await getMediaInfoApi(api).getPlaybackInfo({ itemId: items.Items[0].Id, userId: me.Id })).data;
const source = info.MediaSources[0];
step('playback info', source.Container === 'wav');
const master = await fetch(url + source.TranscodingUrl);
step('playlist by URL alone', master.status === 200 && (await master.text()).startsWith('#EXTM3U'));
const stream = await fetch(`${url}/Audio/${items.Items[0].Id}/stream.wav?ApiKey=${described.key}`, { headers: { Range: 'bytes=0-11' } });
step('range of the file', stream.status === 206 && Buffer.from(await stream.arrayBuffer()).subarray(8).toString() === 'WAVE');

// Browsers and Node 22 have a WebSocket of their own; before that a program brings one along.
globalThis.WebSocket ??= WebSocket;
const message = await new Promise((resolve, reject) => {
  const timer = setTimeout(() => reject(new Error('no message on the socket within 10 s')), 10_000);
  api.subscribe(['Sessions'], (received) => {
    clearTimeout(timer);
    resolve(received);
  });
});
step('socket: Sessions', Array.isArray(message.Data) && message.Data.length >= 1, message.MessageType);

const form = jellyfin.createApi(url, undefined, http);
const loggedIn = (await form.authenticateUserByName('anybody', described.key)).data;
step('login form with the key as the password', loggedIn.AccessToken === described.key && loggedIn.User.Id === me.Id);

const refused = await getUserApi(jellyfin.createApi(url, 'kg_wrong', http)).getCurrentUser().catch((error) => error.response);
step('a wrong key is refused', refused.status === 401, refused.status);
process.exit(0);
