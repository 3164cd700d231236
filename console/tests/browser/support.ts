/** A browser for the tests: Debian's chromium, and what every page must keep. */

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core';
import { expect } from 'vitest';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
/** Where pictures for the documents go when they are asked for. */
const PICTURES = process.env['PICTURES'];
export const SIZE = { width: 1280, height: 800 };

export type Theme = 'light' | 'dark';
export const THEMES: Theme[] = ['light', 'dark'];

export function launch(): Promise<Browser> {
  return chromium.launch({
    executablePath: process.env['CHROMIUM'] ?? '/usr/bin/chromium',
    // Containers have neither user namespaces for its sandbox nor room in /dev/shm.
    args: ['--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu', '--font-render-hinting=none'],
  });
}

export interface Seen {
  page: Page;
  context: BrowserContext;
  /** What the page tried to load from elsewhere, threw, or was refused by its policy. */
  faults: string[];
}

/** A page whose every fault is kept; nothing but `origin` can be reached. */
export async function open(browser: Browser, origin: string, theme: Theme = 'light'): Promise<Seen> {
  const context = await browser.newContext({
    viewport: SIZE,
    colorScheme: theme,
    reducedMotion: 'reduce',
    ignoreHTTPSErrors: true,
    locale: 'en-GB',
    permissions: ['clipboard-read', 'clipboard-write'],
  });
  const page = await context.newPage();
  const faults: string[] = [];
  page.on('pageerror', (error) => faults.push(`threw: ${error.message}`));
  page.on('console', (message) => {
    // A refused request is part of the story; a policy that had to step in is not.
    if (message.type() === 'error' && !/Failed to load resource|net::ERR/.test(message.text())) faults.push(message.text());
  });
  page.on('request', (request) => {
    if (!/^(data|blob):/.test(request.url()) && !request.url().startsWith(origin)) faults.push(`asked for ${request.url()}`);
  });
  page.on('dialog', (dialog) => {
    faults.push(`a dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  return { page, context, faults };
}

/** While working on the pages: those of `dist/site` instead of those that the plane was built with. */
export async function freshPages(page: Page): Promise<void> {
  if (!process.env['FRESH']) return;
  const site = join(import.meta.dirname, '../../dist/site');
  await page.context().route(/^https?:\/\/[^/]+\/(assets\/.*|theme\.js|mark\.svg)?(\?.*)?(#.*)?$/, (route) => {
    const path = new URL(route.request().url()).pathname;
    return route.fulfill({ path: join(site, path === '/' ? 'index.html' : path) });
  });
}

/** No violation of WCAG 2.2 AA and axe's best practices, or of one rule of them. */
export async function accessible(page: Page, where: string, rule?: string): Promise<void> {
  // By the protocol, not as a script of the page: the policy stays as strict as it is served.
  await page.evaluate(AXE);
  const found = await page.evaluate(async (rule) => {
    const { axe } = globalThis as unknown as { axe: typeof import('axe-core') };
    const { violations } = await axe.run(document, rule === undefined ? {} : { runOnly: [rule] });
    return violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => `${node.html.slice(0, 160)} ${node.any[0]?.message ?? ''}`).join(' | ')}`);
  }, rule);
  expect(found, where).toEqual([]);
}

export async function picture(page: Page, name: string): Promise<void> {
  if (!PICTURES) return;
  mkdirSync(PICTURES, { recursive: true });
  await page.screenshot({ path: join(PICTURES, `${name}.png`) });
}

/** Goes to a page of the console and waits until it shows what it has read. */
export async function visit(page: Page, hash: string, ready: string): Promise<void> {
  await page.evaluate((to) => {
    location.hash = to;
  }, hash);
  await page.locator(ready).first().waitFor({ state: 'visible' });
  await page.waitForLoadState('domcontentloaded');
}
