// Signs in at the page of tests/oidc/server.mjs in a headless Chromium, and looks at the page that our callback shows.
//
//   node login.mjs URL [SCREENSHOT.png] [--account alice@example.com | --deny]
//
// Standard output holds one line of JSON, {"ok":true,"title":...,"text":...}, when everything was as it must be; else
// the process ends with 1 and says on standard error what was not. The screenshot is taken of what was last seen; next
// to it, as SCREENSHOT.dark.png and SCREENSHOT.phone.png, are dark mode and a narrow window.
//
// Everything ends within TIME_MAX. CHROMIUM in the environment names another program than Debian's.

import { existsSync } from 'node:fs';
import { parseArgs } from 'node:util';

const TIME_MAX = 90_000; // milliseconds, for all of it
const STEP_MAX = 30_000; // milliseconds, for one page or one click
const PHONE = { width: 360, height: 640 };
const DESK = { width: 1000, height: 700 };
const CHROMIUM = process.env.CHROMIUM || '/usr/bin/chromium';
const FLAGS = [
  '--headless',
  '--no-sandbox', // tests run as root in containers, and see nothing but loopback
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

const fail = (why) => {
  // Queries are left out: that of the callback holds the code.
  console.error(`login.mjs: ${why.replace(/(https?:\/\/[^\s?]+)\?\S+/g, '$1?...')}`);
  process.exit(1); // which also ends the browser
};

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    account: { type: 'string', default: 'alice@example.com' },
    deny: { type: 'boolean', default: false },
  },
});
const [address, screenshot] = positionals;
if (!address) fail('give the address to open');
if (!existsSync(CHROMIUM)) fail(`${CHROMIUM} is missing; run: apt-get install chromium`);
const { chromium } = await import('playwright-core').catch(() =>
  fail('playwright-core is not installed; run: npm ci --prefix tests/browser'),
);

const expect = (condition, what) => {
  if (!condition) throw new Error(what);
};

/** The page that must be there after the sign-in. */
const readCallback = async (page) => {
  const title = await page.title();
  const heading = await page.getByRole('heading', { level: 1 }).innerText();
  const text = await page.locator('main').innerText();
  const source = await page.content();
  expect(heading === title, `the title ${JSON.stringify(title)} is not the heading ${JSON.stringify(heading)}`);
  expect(/close this tab/i.test(text), `it does not say that the tab can be closed: ${text}`);
  if (options.deny) {
    expect(/did not work/.test(heading), `it does not say that the login failed: ${text}`);
  } else {
    expect(heading.includes(options.account), `it does not say which account: ${text}`);
  }
  const code = new URL(page.url()).searchParams.get('code');
  expect(options.deny || code, 'the browser came back without a code');
  expect(!code || !source.includes(code), 'the page holds the code');
  expect(!/<script|<link|<img|src=|@import|url\(/i.test(source), `the page loads something: ${source}`);
  return { title, text };
};

const picture = async (page, kind) => {
  if (screenshot) await page.screenshot({ path: screenshot.replace(/\.png$/, `${kind}.png`) });
};

/** Takes the pictures; the text must stay inside the window where that is narrow. */
const portray = async (page) => {
  await picture(page, '');
  await page.emulateMedia({ colorScheme: 'dark' });
  await picture(page, '.dark');
  await page.emulateMedia({ colorScheme: 'light' });
  await page.setViewportSize(PHONE);
  await picture(page, '.phone');
  const tooWide = await page.evaluate(() => document.documentElement.scrollWidth > window.innerWidth);
  expect(!tooWide, 'on a phone the page has to be scrolled sideways');
};

const signIn = async (page) => {
  const elsewhere = [];
  page.on('request', (request) => {
    const { protocol, hostname } = new URL(request.url());
    const isHere = ['127.0.0.1', 'localhost', '[::1]'].includes(hostname);
    if (protocol.startsWith('http') && !isHere) elsewhere.push(request.url());
  });
  await page.goto(address);
  const name = options.deny ? 'Do not allow' : `Sign in as ${options.account}`;
  await page.getByRole('button', { name, exact: true }).click();
  await page.waitForURL((url) => url.pathname === '/auth/callback');
  const seen = await readCallback(page);
  await portray(page);
  expect(elsewhere.length === 0, `the browser was sent off this machine: ${elsewhere.join(' ')}`);
  return seen;
};

const watch = setTimeout(() => fail(`not done after ${TIME_MAX / 1000} seconds`), TIME_MAX);
// The profile is a new, empty folder that goes away with the browser.
const browser = await chromium
  .launch({ executablePath: CHROMIUM, args: FLAGS, timeout: STEP_MAX })
  .catch((error) => fail(`${CHROMIUM} did not start: ${error.message}`));
const page = await browser.newPage({ viewport: DESK });
page.setDefaultTimeout(STEP_MAX);
try {
  const seen = await signIn(page);
  await browser.close();
  clearTimeout(watch);
  console.log(JSON.stringify({ ok: true, ...seen }));
} catch (error) {
  await picture(page, '').catch(() => {});
  // What a person would see says more than a time-out does.
  const text = await page.innerText('body', { timeout: 1000 }).catch(() => '');
  await browser.close().catch(() => {});
  fail(`${error.message}\nthe page says: ${text}`);
}
