// Serves the built page on loopback: its files, the dashboards as they are in the tree, the data source's provisioning,
// and Prometheus's HTTP API under /api/. For looking at a preview; not a server for anybody else.

import { readFile, readdir } from 'node:fs/promises';
import { createServer, request } from 'node:http';
import { extname, join, normalize } from 'node:path';

const here = import.meta.dirname;
const grafana = join(here, '..');
const types = {
  '.css': 'text/css',
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript',
  '.json': 'application/json',
  '.svg': 'image/svg+xml',
  '.woff': 'font/woff',
  '.woff2': 'font/woff2',
};

/** Where paths lie, by how they begin. */
const folders = [
  ['/dashboards/', join(grafana, 'dashboards')],
  // Grafana's icons, where its components look for them.
  ['/public/build/img/', join(here, 'node_modules/@grafana/ui/dist/public/img')],
  ['/public/fonts/inter/', join(here, 'node_modules/@fontsource/inter/files')],
  ['/', join(here, 'dist')],
];

/** Grafana's style sheet wants its fonts by these names. */
const fonts = {
  'Inter-Regular.woff2': 'inter-latin-400-normal.woff2',
  'Inter-Medium.woff2': 'inter-latin-500-normal.woff2',
};

/** Body and content type of a path, or nothing when there is no such file. */
async function file(path) {
  if (path === '/dashboards') {
    const names = (await readdir(join(grafana, 'dashboards'))).filter((name) => name.endsWith('.json'));
    return [JSON.stringify(names.map((name) => name.slice(0, -5)).sort()), types['.json']];
  }
  if (path === '/datasource.yaml') {
    return [await readFile(join(grafana, 'provisioning/datasources/colo.yaml')), 'text/plain'];
  }
  // A path that starts with `/` cannot climb above it.
  const whole = normalize(path === '/' ? '/index.html' : path);
  const [prefix, folder] = folders.find(([start]) => whole.startsWith(start));
  const inside = whole.slice(prefix.length);
  return [await readFile(join(folder, fonts[inside] ?? inside)), types[extname(inside)] ?? 'application/octet-stream'];
}

/** Hands a request to Prometheus as it is. */
function forward(prometheus, incoming, outgoing) {
  const { host: _, ...headers } = incoming.headers;
  const asked = request(new URL(incoming.url, prometheus), { method: incoming.method, headers }, (answer) => {
    outgoing.writeHead(answer.statusCode, answer.headers);
    answer.pipe(outgoing);
  });
  asked.on('error', (error) => outgoing.writeHead(502, { 'content-type': 'text/plain' }).end(String(error)));
  incoming.pipe(asked);
}

/** Listens on loopback; port 0 takes a free one. Resolves to the page's address. */
export function serve(prometheus, port) {
  const server = createServer(async (incoming, outgoing) => {
    if (incoming.url.startsWith('/api/')) {
      forward(prometheus, incoming, outgoing);
      return;
    }
    try {
      const [body, type] = await file(decodeURIComponent(new URL(incoming.url, 'http://preview').pathname));
      outgoing.writeHead(200, { 'content-type': type }).end(body);
    } catch (error) {
      outgoing.writeHead(404, { 'content-type': 'text/plain' }).end(`${incoming.url}: ${error.code}\n`);
    }
  });
  return new Promise((resolve, reject) => {
    server.on('error', reject);
    server.listen(port, '127.0.0.1', () => resolve(`http://127.0.0.1:${server.address().port}`));
  });
}
