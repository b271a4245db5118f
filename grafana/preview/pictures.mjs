// Opens each dashboard of a served page in headless Chromium, waits until its panels are drawn, and writes a PNG of it.
// Fails when a panel has nothing to show, or the page wrote errors.

import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { Chromium } from './chromium.mjs';

const READY_LIMIT_MS = 600_000;
const WIDTH = 1400;

/** Icons come one by one after the panels say that they are drawn: waits until two seconds bring no new one. */
async function settled(chromium) {
  let [before, now] = [-1, 0];
  while (now !== before) {
    await new Promise((resolve) => setTimeout(resolve, 2000));
    [before, now] = [now, await chromium.evaluate('document.querySelectorAll("svg *").length')];
  }
}

/** `what` has the page's address, a list of [dashboard, parameters], a folder, and Chromium's program with its libraries. */
export async function pictures({ page, dashboards, folder, program, libraries }) {
  const chromium = await Chromium.start(program, libraries);
  const problems = [];
  try {
    for (const [name, parameters] of dashboards) {
      chromium.errors.length = 0;
      // The window is as high as the page in the end, but the page's width is measured at once.
      await chromium.open(`${page}/?${new URLSearchParams({ dashboard: name, ...parameters })}`, WIDTH, 900);
      await chromium.until('document.body?.dataset.ready === "true"', READY_LIMIT_MS);
      await chromium.resize(WIDTH, await chromium.evaluate('document.documentElement.scrollHeight'));
      await settled(chromium);
      const path = join(folder, `${name}.png`);
      const picture = await chromium.picture();
      await writeFile(path, picture);
      console.log(`${path}: ${Math.round(picture.length / 1024)} KiB`);
      const said = JSON.parse(await chromium.evaluate('document.body.dataset.problems'));
      problems.push(...[...said, ...chromium.errors].map((problem) => `${name}: ${problem}`));
    }
  } finally {
    await chromium.stop();
  }
  if (problems.length > 0) {
    throw new Error(`the pictures are made, but not all is well:\n  ${problems.join('\n  ')}`);
  }
}
