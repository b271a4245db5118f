// Starts two demos of colo, Prometheus and the page on loopback; then makes pictures, or waits to be looked at. Started
// by `run`, which fetches what it needs.

import { spawn } from 'node:child_process';
import { mkdir, mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';

import { pictures } from './pictures.mjs';
import { serve } from './serve.mjs';

const START_LIMIT_MS = 60_000;
const { values: options } = parseArgs({
  options: {
    seconds: { type: 'string', default: '150' },
    out: { type: 'string' },
    look: { type: 'boolean', default: false },
    port: { type: 'string', default: '0' },
    prometheus: { type: 'string' },
    'colo-program': { type: 'string' },
    'prometheus-program': { type: 'string' },
    'chromium-program': { type: 'string' },
    'chromium-libraries': { type: 'string', default: '' },
  },
});
const seconds = Number(options.seconds);
const grafana = join(import.meta.dirname, '..');

// Two runs side by side, the same load: one always compares, one chooses. So the hybrid dashboard has something to set
// beside each other. Each differs often enough for checkpoints, modes and divergences to be seen in two minutes.
const load = ['--workers', '2', '--rate', '300', '--flows', '16', '--diverge', '0.005'];
const runs = {
  always: (folder) => ['--set', `diverged=${join(folder, 'diverged.pcapng')}`],
  hybrid: () => ['--set', 'mode=hybrid', '--set', 'passive_limit=4000', '--set', 'passive_count=20'],
};

const chromium = { program: options['chromium-program'], libraries: options['chromium-libraries'] };
const children = [];

function freePort() {
  return new Promise((done, failed) => {
    const server = createServer();
    server.on('error', failed);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => done(port));
    });
  });
}

async function start(program, args, log) {
  const output = await open(log, 'w');
  const child = spawn(program, args, { stdio: ['ignore', output.fd, output.fd] });
  await output.close();
  children.push(child);
  child.on('error', (error) => fail(error));
  child.on('exit', (code) => child.killed || fail(new Error(`${program} ended with ${code}: see ${log}`)));
}

// Rejects when something ends that should run.
let fail;
const failed = new Promise((_, reject) => (fail = reject));
for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, () => fail(new Error(`ended by ${signal}`)));
}

async function answers(url) {
  const deadline = Date.now() + START_LIMIT_MS;
  while (!(await fetch(url).then((answer) => answer.ok, () => false))) {
    if (Date.now() > deadline) {
      throw new Error(`${url} does not answer`);
    }
    await sleep(200);
  }
}

function sleep(ms) {
  return new Promise((done) => setTimeout(done, ms));
}

/** Starts the demos, and Prometheus that scrapes them. Resolves to its address. */
async function startAll(folder) {
  const targets = [];
  for (const [name, extra] of Object.entries(runs)) {
    const metrics = `127.0.0.1:${await freePort()}`;
    // Longer than the pictures take; it is ended before.
    const run = ['demo', '--seconds', String(seconds + 3600), '--metrics', metrics, ...load, ...extra(folder)];
    await start(options['colo-program'], run, join(folder, `${name}.log`));
    await answers(`http://${metrics}/readyz`);
    targets.push(`  - targets: ["${metrics}"]\n    labels: {instance: "${name}"}\n`);
  }
  const config = join(folder, 'prometheus.yml');
  const scrape = `scrape_configs:\n- job_name: colo\n  static_configs:\n${targets.join('')}`;
  const rules = `rule_files: ["${join(grafana, 'prometheus/rules')}/*.yml"]\n`;
  await writeFile(config, `global: {scrape_interval: 5s, evaluation_interval: 15s}\n${rules}${scrape}`);
  const address = `127.0.0.1:${await freePort()}`;
  const settings = [`--config.file=${config}`, `--storage.tsdb.path=${join(folder, 'data')}`];
  await start(options['prometheus-program'], [...settings, `--web.listen-address=${address}`], `${config}.log`);
  await answers(`http://${address}/-/ready`);
  return `http://${address}`;
}

async function work(folder) {
  const prometheus = options.prometheus ?? (await startAll(folder));
  const page = await serve(prometheus, Number(options.port));
  if (options.look) {
    console.log(`Prometheus at ${prometheus}; look at ${page}/?from=now-5m; Ctrl-C ends it all`);
    await new Promise(() => {});
  }
  if (!options.prometheus) {
    console.log(`two demos and Prometheus run for ${seconds} s`);
    await sleep(1000 * seconds);
  }
  const out = resolve(options.out ?? join(grafana, '../docs/images'));
  await mkdir(out, { recursive: true });
  // The first seconds have no rates yet.
  const range = { from: `now-${Math.max(30, seconds - 20)}s`, to: 'now' };
  // While a run is passive nothing is compared, and the overview has no latency of that.
  // Of another's Prometheus the names of instances are not known.
  const only = (instance) => (options.prometheus ? {} : { 'var-instance': instance });
  const dashboards = [
    ['overview', { ...range, ...only('always') }],
    ['internals', { ...range, ...only('always') }],
    ['hybrid', range],
  ];
  await pictures({ page, dashboards, folder: out, ...chromium });
}

const folder = await mkdtemp(join(tmpdir(), 'colo-preview-'));
let code = 0;
try {
  await Promise.race([work(folder), failed]);
} catch (error) {
  console.error(error.message);
  code = 1;
}
for (const child of children) {
  const ended = new Promise((done) => child.once('exit', done));
  if (child.kill()) {
    await ended;
  }
}
// After a failure the logs stay.
if (code === 0) {
  await rm(folder, { recursive: true, force: true });
}
process.exit(code);
