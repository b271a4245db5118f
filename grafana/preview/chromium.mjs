// Headless Chromium over the pipe of its DevTools protocol: opens pages, waits, takes pictures. No library needed.

import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const ANSWER_LIMIT_MS = 60_000;

export class Chromium {
  #process;
  #profile;
  #next = 1;
  #waiting = new Map();
  #session;
  /** What pages said on their consoles as errors, and what they threw. */
  errors = [];

  static async start(program, libraries) {
    const chromium = new Chromium();
    chromium.#profile = await mkdtemp(join(tmpdir(), 'colo-preview-'));
    const options = [
      '--headless',
      '--remote-debugging-pipe',
      '--disable-gpu',
      '--hide-scrollbars',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      `--user-data-dir=${chromium.#profile}`,
      // Chromium refuses to make its sandbox as root.
      ...(process.getuid() === 0 ? ['--no-sandbox'] : []),
      'about:blank',
    ];
    const env = { ...process.env, LD_LIBRARY_PATH: [libraries, process.env.LD_LIBRARY_PATH].filter(Boolean).join(':') };
    chromium.#process = spawn(program, options, { stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'], env });
    chromium.#process.on('error', (error) => chromium.#fail(error));
    chromium.#process.on('exit', (code) => chromium.#fail(new Error(`Chromium ended with ${code}`)));
    chromium.#listen();
    const { targetId } = await chromium.#send('Target.createTarget', { url: 'about:blank' });
    const { sessionId } = await chromium.#send('Target.attachToTarget', { targetId, flatten: true });
    chromium.#session = sessionId;
    for (const domain of ['Page', 'Runtime', 'Log']) {
      await chromium.#send(`${domain}.enable`);
    }
    return chromium;
  }

  #listen() {
    let rest = '';
    const pipe = this.#process.stdio[4];
    pipe.setEncoding('utf8');
    pipe.on('data', (text) => {
      const messages = (rest + text).split('\0');
      rest = messages.pop();
      messages.forEach((message) => this.#receive(JSON.parse(message)));
    });
  }

  #receive({ id, result, error, method, params }) {
    if (id !== undefined) {
      const { resolve, reject } = this.#waiting.get(id);
      this.#waiting.delete(id);
      error ? reject(new Error(error.message)) : resolve(result);
    } else if (method === 'Runtime.exceptionThrown') {
      const { exception, text } = params.exceptionDetails;
      this.errors.push(exception?.description ?? text);
    } else if (method === 'Runtime.consoleAPICalled' && params.type === 'error') {
      this.errors.push(params.args.map((one) => one.value ?? one.description).join(' '));
    } else if (method === 'Log.entryAdded' && params.entry.level === 'error') {
      this.errors.push(`${params.entry.text} ${params.entry.url ?? ''}`);
    }
  }

  #fail(error) {
    for (const { reject } of this.#waiting.values()) {
      reject(error);
    }
    this.#waiting.clear();
  }

  #send(method, params = {}) {
    const id = this.#next++;
    const message = JSON.stringify({ id, method, params, sessionId: this.#session });
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`${method}: no answer`)), ANSWER_LIMIT_MS);
      const done = (then) => (value) => {
        clearTimeout(timer);
        then(value);
      };
      this.#waiting.set(id, { resolve: done(resolve), reject: done(reject) });
      this.#process.stdio[3].write(`${message}\0`);
    });
  }

  /** What an expression is worth in the page; promises are waited for. */
  async evaluate(expression) {
    const answer = await this.#send('Runtime.evaluate', { expression, returnByValue: true, awaitPromise: true });
    if (answer.exceptionDetails) {
      throw new Error(answer.exceptionDetails.exception?.description ?? answer.exceptionDetails.text);
    }
    return answer.result.value;
  }

  /** Opens an address in a window of that size in CSS pixels. */
  async open(url, width, height) {
    await this.resize(width, height);
    await this.#send('Page.navigate', { url });
  }

  async resize(width, height) {
    const size = { width, height, deviceScaleFactor: 1, mobile: false };
    await this.#send('Emulation.setDeviceMetricsOverride', size);
  }

  /** Asks again and again until an expression is true. */
  async until(expression, limitMs) {
    const deadline = Date.now() + limitMs;
    while (!(await this.evaluate(expression))) {
      if (Date.now() > deadline) {
        throw new Error(`the page is not ready after ${limitMs / 1000} s: ${this.errors.join('; ') || 'no errors'}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }

  /** The window as PNG. */
  async picture() {
    const { data } = await this.#send('Page.captureScreenshot', { format: 'png' });
    return Buffer.from(data, 'base64');
  }

  async stop() {
    const ended = new Promise((resolve) => this.#process.once('exit', resolve));
    this.#process.removeAllListeners('error');
    this.#process.kill();
    await ended;
    await rm(this.#profile, { recursive: true, force: true, maxRetries: 5 });
  }
}
