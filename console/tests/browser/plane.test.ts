/** The console on a real plane: an incident arrives, a device is contained and restored, a proof is checked. */

import { execFileSync } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { HOSTILE } from '../fixture/story.ts';
import { DEVICES, FLEETWARD, Stage } from './stage.ts';
import { accessible, freshPages, launch, open, picture, type Seen, THEMES, visit } from './support.ts';

const VICTIM = 'camera-00003';
const NEIGHBOUR = 'camera-00007';
const PAGES: [name: string, hash: string, ready: string][] = [
  ['now', '#/now', '.view svg[role=img]'],
  ['fleet', '#/fleet', 'td strong'],
  ['device', `#/fleet/${VICTIM}`, '.pairs'],
  ['alerts', '#/alerts', 'td'],
  ['incident', '#/incidents/INC-1', '.view svg[role=img]'],
  ['playbooks', '#/playbooks', 'table'],
  ['audit', '#/audit', 'td'],
  ['your-fleet', '#/your-fleet', 'input[type=file]'],
  ['authorities', '#/identity/authorities', '.branches li'],
  ['pending', '#/identity/pending', 'h2'],
  ['certificates', '#/identity/certificates', 'td'],
  ['revocations', '#/identity/revocations', 'td'],
  ['imports', '#/identity/imports', 'progress'],
  ['claim-tokens', '#/identity/claim-tokens', 'td'],
  ['tpms', '#/identity/tpms', 'h2'],
  ['served', '#/identity/served', '.chain'],
  ['commands', '#/gateway/commands', 'td'],
];

/** One story in order: each test goes on where the one before it ended. */
describe.sequential('on a real plane', () => {
  let browser: Browser;
  let stage: Stage;
  let seen: Seen;
  let page: Page;

  beforeAll(async () => {
    [browser, stage] = await Promise.all([launch(), Stage.open()]);
    seen = await open(browser, stage.origin);
    page = seen.page;
    await freshPages(page);
  });
  afterAll(async () => {
    await browser?.close();
    await stage?.close();
  });

  test('a link signs in, once', async () => {
    const link = await stage.link();
    await page.goto(link);
    await page.locator('.rest').waitFor();
    expect(page.url()).toBe(`${stage.origin}/#/now`);
    await page.locator('.live.live').waitFor();
    const other = await open(browser, stage.origin);
    await other.page.goto(link);
    await other.page.getByText('You are not signed in').waitFor();
    await other.page.getByText('used or expired').waitFor();
    for (const theme of THEMES) {
      await other.page.emulateMedia({ colorScheme: theme });
      await accessible(other.page, `signed out, ${theme}`);
    }
    expect(other.faults).toEqual([]);
    await other.context.close();
    await accessible(page, 'calm');
  });

  test('the page is served with a policy that lets nothing inline act', async () => {
    const answer = await page.request.get(`${stage.origin}/`);
    expect(answer.headers()['content-security-policy']).toContain("script-src 'self'; style-src 'self'");
    const script = (await answer.text()).match(/\/assets\/[^"]+\.js/)?.[0];
    const asset = await page.request.get(`${stage.origin}${script}`);
    expect(asset.headers()['cache-control']).toContain('immutable');
    const again = await page.request.get(`${stage.origin}/`, { headers: { 'if-none-match': answer.headers()['etag'] ?? '' } });
    expect(again.status()).toBe(304);
  });

  test('a baseline is accepted by a person', async () => {
    await visit(page, '#/playbooks', 'text=contain-hijacked');
    const row = page.getByRole('row').filter({ hasText: 'camera' });
    await row.first().waitFor();
    const accept = row.getByRole('button', { name: 'Accept…' });
    if (await accept.count()) {
      await accept.click();
      await accessible(page, 'the accept dialog');
      await page.getByRole('dialog').getByRole('button', { name: 'Accept it' }).click();
      await row.getByText('accepted', { exact: true }).waitFor();
    }
  });

  test('an incident arrives by itself, with its picture and who saw what', async () => {
    await visit(page, '#/now', '.rest');
    // Those that only listen; who publishes below takes its own session over.
    const devices = Array.from({ length: DEVICES }, (_, i) => `camera-${String(i).padStart(5, '0')}`);
    await Promise.all(devices.filter((device) => ![VICTIM, NEIGHBOUR, 'camera-00005'].includes(device)).map((device) => stage.subscribe(device)));
    expect(await stage.publish('camera-00005', 'v1/camera/camera-00005/telemetry/light', '42')).toBe(true);
    for (const door of ['open', 'close']) await stage.publish(VICTIM, `v1/lock/lock-2/command/${door}`, 'now');
    await stage.observe(VICTIM, [
      { feature: 'destination', address: '203.0.113.66', port: 4444, protocol: 'tcp', bytes_out: 48_000_000 },
      { feature: 'listening-port', port: 2323, protocol: 'tcp' },
      { feature: 'dns-queries', queries: 4000, names: [HOSTILE[0].slice(0, 60), 'a.example'], interval_ms: 1000 },
      { feature: 'bytes-out', bytes: 480_000_000, packets: 400_000, interval_ms: 1000 },
    ]);
    // Nobody reloads: the stream brings it.
    await page.locator('.view svg[role=img]').waitFor({ timeout: 30_000 });
    await page.locator('.view .chip', { hasText: /quarantined|revoked/ }).first().waitFor({ timeout: 30_000 });
    await page.locator('.steps .seen').first().waitFor();
    expect(await page.locator('.view').innerText()).toContain(VICTIM);
    const [content, room] = await page.evaluate(() => {
      const main = document.querySelector('main');
      return [main?.scrollHeight ?? 0, main?.clientHeight ?? 0];
    });
    expect(content, 'all of it without scrolling').toBeLessThanOrEqual(room);
    expect(await stage.publish(VICTIM, `v1/camera/${VICTIM}/telemetry/light`, '1'), 'cut off').toBe(false);
    expect(await stage.publish(NEIGHBOUR, `v1/camera/${NEIGHBOUR}/telemetry/light`, '1'), 'untouched').toBe(true);
  });

  test('a device is restored, and contained again by hand', async () => {
    await visit(page, '#/now', '.view');
    await page.getByRole('button', { name: 'Restore…' }).click();
    const dialog = page.getByRole('dialog');
    await dialog.getByText('camera-telemetry').waitFor();
    await accessible(page, 'the restore dialog');
    await dialog.getByRole('button', { name: 'Restore it' }).click();
    await page.getByText('Restored; recorded').waitFor();
    expect(await stage.publish(VICTIM, `v1/camera/${VICTIM}/telemetry/light`, '2'), 'restored').toBe(true);
    await page.getByRole('button', { name: 'Quarantine…' }).click();
    await dialog.getByText('camera-telemetry').waitFor();
    await dialog.getByLabel('Reason').fill('the console asked for it');
    await accessible(page, 'the contain dialog');
    await dialog.getByRole('button', { name: 'Quarantine it' }).click();
    await page.getByText('in force on every shard').waitFor();
    expect(await stage.publish(VICTIM, `v1/camera/${VICTIM}/telemetry/light`, '3'), 'contained').toBe(false);
    await page.reload();
    await page.locator('.view .chip', { hasText: 'quarantined' }).waitFor();
    await page.locator('.steps .seen').first().waitFor();
    await page.locator('.live.live').waitFor();
    await picture(page, 'now');
    await page.emulateMedia({ colorScheme: 'dark' });
    await picture(page, 'now-dark');
    await page.emulateMedia({ colorScheme: 'light' });
  });

  test('the proof of a step is checked in the page, and offline by the command shown', async () => {
    await page.locator('.steps a', { hasText: 'entry' }).last().click();
    await page.getByText('Check the proof here').click();
    await page.getByText('Proven.').waitFor({ timeout: 15_000 });
    await accessible(page, 'a proof');
    await picture(page, 'proof');
    const commands = (await page.locator('.command code').innerText()).split('\n').map((line) => line.replace(/^\$ /, ''));
    const [bundle = '', verify = ''] = commands.filter(Boolean);
    const file = join(stage.folder, 'evidence.json');
    const parts = bundle.split(' ').slice(1).map((part) => (part.endsWith('.json') ? file : part));
    await stage.fleetward(...parts);
    const key = /--key '([^']+)'/.exec(verify)?.[1] ?? '';
    expect(execFileSync(FLEETWARD, ['audit', 'verify', file, '--key', key]).toString()).toContain('OK');
    // Once more: the log has only grown since.
    await visit(page, '#/audit/1', 'h2:text-is("Entry 1")');
    await page.getByText('Check the proof here').click();
    await page.getByText('has only grown since').waitFor();
  });

  test('a CSV is imported, and a foreign one is judged and forgotten', async () => {
    await visit(page, '#/fleet', 'td strong');
    const csv = `device,country,support_until,note\n${VICTIM},DE,2031-06-30,"${HOSTILE[3]}"\n${NEIGHBOUR},FR,2030-01-01,\n`;
    await page.getByRole('button', { name: 'Import CSV…' }).click();
    await page.locator('dialog input[type=file]').setInputFiles({ name: 'devices.csv', mimeType: 'text/csv', buffer: Buffer.from(csv) });
    await page.getByText('2 to change').waitFor();
    await accessible(page, 'the import dialog');
    await page.getByRole('dialog').getByRole('button', { name: 'Import', exact: true }).click();
    await page.locator('dialog').waitFor({ state: 'detached' });
    await visit(page, `#/fleet/${VICTIM}`, '.pairs');
    await page.getByText('2031-06-30').waitFor();
    await picture(page, 'device');

    const pem = (await readFile(join(stage.folder, 'fleet-keys/devices/camera-00001.pem'), 'utf8')).trim();
    const foreign = `serial,certificate,user,password\nA-1,"${pem}",admin,admin\nA-2,"${pem}",admin,admin\n${HOSTILE[0].replaceAll('"', '""')},,root,x9\n`;
    await visit(page, '#/your-fleet', 'input[type=file]');
    await page.locator('input[type=file]').setInputFiles({ name: 'ours.csv', mimeType: 'text/csv', buffer: Buffer.from(foreign) });
    await page.locator('.found h2').waitFor();
    expect(await page.locator('.found').innerText()).toMatch(/shared certificate/i);
    await accessible(page, 'findings');
    await picture(page, 'your-fleet');
  });

  test('a genuine stranger waits, is seen without a reload, approved, and gets its certificate', async () => {
    await visit(page, '#/identity/pending', 'text=Nobody waits');
    const device = await stage.stranger('HALL-1');
    expect((await device.enroll()).status).toBe(202);
    // Nobody reloads: the stream brings it.
    const row = page.locator('tr').filter({ hasText: 'HALL-1' });
    await row.getByText('127.0.0.1').waitFor({ timeout: 15_000 });
    await row.locator('[data-row]').focus();
    await page.keyboard.press('a');
    const dialog = page.getByRole('dialog');
    await dialog.getByLabel('Product').selectOption('camera');
    await dialog.getByLabel('Name').fill('hall-camera');
    await dialog.getByLabel('Reason').fill('it hangs in the hall');
    await accessible(page, 'the approve dialog');
    await page.keyboard.press('Enter');
    await page.getByText('hall-camera is approved as camera').waitFor();
    const answer = await device.enroll();
    expect([answer.status, answer.text.includes('BEGIN CERTIFICATE')]).toEqual([200, true]);
    await page.getByText('Nobody waits').waitFor({ timeout: 15_000 });
    await visit(page, '#/identity/certificates?holder=device/hall-camera', 'tbody tr');
    await expect.poll(() => page.locator('tbody tr').count()).toBe(1);
    await page.locator('tbody tr').getByText('entry').click();
    await page.getByText('Check the proof here').click();
    await page.getByText('Proven.').waitFor({ timeout: 15_000 });
    expect(await page.locator('pre').first().innerText()).toContain('device/hall-camera');
  });

  test('the tree of CAs says where each key is, and its counts are those on record', async () => {
    await visit(page, '#/identity/authorities', '.branches li');
    const ca = page.locator('.branches li').first();
    expect(await ca.innerText()).toMatch(/all on record/);
    expect(await page.locator('.findings').innerText()).toContain('fleetward identity root export');
    await picture(page, 'authorities');
    await ca.getByRole('link', { name: /^\d/ }).first().click();
    await page.locator('tbody tr').first().waitFor();
    expect(await page.locator('tbody tr').count()).toBeGreaterThan(DEVICES);
  });

  test('a certificate is held and released: its device is out, and in again', async () => {
    const device = 'camera-00008';
    const speaks = (text: string) => stage.publish(device, `v1/camera/${device}/telemetry/light`, text);
    expect(await speaks('1')).toBe(true);
    await visit(page, `#/identity/certificates?holder=device/${device}`, 'tbody tr');
    await expect.poll(() => page.locator('tbody tr').count()).toBe(1);
    await page.getByRole('button', { name: /^Revoke…/ }).click();
    const dialog = page.getByRole('dialog');
    await dialog.getByText('1 certificate').waitFor();
    await dialog.getByLabel('Reason').selectOption('certificate-hold');
    await dialog.getByRole('button', { name: 'Put it on hold' }).click();
    await page.getByText(/is on hold\./).waitFor();
    expect(await speaks('2'), 'on hold').toBe(false);
    await page.getByRole('button', { name: /^Release…/ }).click();
    await dialog.getByLabel('Reason').fill('it was found again');
    await dialog.getByRole('button', { name: 'Release it' }).click();
    await page.getByText(/is released; recorded as entry \d+/).waitFor();
    expect(await speaks('3'), 'released').toBe(true);
  });

  test('a device is revoked, and the receipt is proven in the page', async () => {
    const device = 'camera-00009';
    await stage.subscribe(device);
    await visit(page, `#/fleet/${device}`, 'text=connected');
    await page.getByRole('button', { name: 'Revoke…', exact: true }).click();
    const dialog = page.getByRole('dialog');
    await dialog.getByText('1 device, 1 certificate, 1 session').waitFor();
    await dialog.getByLabel('Reason').selectOption('key-compromise');
    await accessible(page, 'the revoke dialog');
    await dialog.getByRole('button', { name: 'Revoke it' }).click();
    const receipt = page.getByRole('region', { name: 'Receipt' });
    await receipt.getByText(`Device ${device} is revoked.`).waitFor();
    expect(await receipt.locator('dd').allInnerTexts()).toEqual(['1', expect.stringMatching(/µs|ms/), expect.stringMatching(/µs|ms/), expect.stringMatching(/µs|ms/), expect.stringMatching(/^entry \d+$/)]);
    expect(await stage.publish(device, `v1/camera/${device}/telemetry/light`, '1'), 'revoked').toBe(false);
    await expect
      .poll(
        async () => {
          await receipt.getByRole('button', { name: /^Check/ }).click();
          await receipt.locator('.proven, .alarm').first().waitFor();
          return receipt.innerText();
        },
        { timeout: 15_000 },
      )
      .toContain('Proven: it is entry');
    await accessible(page, 'a receipt');
    await picture(page, 'receipt');
    await visit(page, '#/identity/revocations', 'tbody tr');
    await page.locator('tr').filter({ hasText: device }).getByText('key compromise').waitFor();
  });

  test('a product is held by whoever types its name, and every device of it is out until it is released', async () => {
    const speaks = () => stage.publish(NEIGHBOUR, `v1/camera/${NEIGHBOUR}/telemetry/light`, '4');
    await visit(page, '#/identity/revocations', 'text=Revoke or hold');
    await page.getByLabel('What').selectOption('product');
    await page.getByLabel('Name').selectOption('camera');
    await page.getByRole('button', { name: 'Revoke…', exact: true }).click();
    const dialog = page.getByRole('dialog');
    await dialog.getByText('would be barred').waitFor();
    await dialog.getByLabel('Reason').selectOption('certificate-hold');
    expect(await dialog.getByRole('button', { name: 'Put it on hold' }).isDisabled()).toBe(true);
    await dialog.getByLabel(/Type the name/).fill('camera');
    await dialog.getByRole('button', { name: 'Put it on hold' }).click();
    await page.getByText('Product camera is on hold.').waitFor();
    expect(await speaks(), 'held with its product').toBe(false);
    await page.getByRole('button', { name: 'Release… camera', exact: true }).click();
    await dialog.getByLabel('Reason').fill('fixed by release 2.1');
    await dialog.getByRole('button', { name: 'Release it' }).click();
    await page.getByText('product camera is released').waitFor();
    expect(await speaks(), 'released').toBe(true);
  });

  test('an existing fleet is imported, and claim tokens are made for devices that are expected', async () => {
    await visit(page, '#/identity/imports', 'text=No existing fleet was imported');
    await page.getByRole('button', { name: 'Import a fleet…' }).click();
    const dialog = page.getByRole('dialog');
    await dialog.getByLabel('Name', { exact: true }).fill('kiosks');
    await dialog.getByLabel('What names a device').selectOption('fingerprint');
    await dialog.getByLabel('Last day').fill('2037-06-30');
    await accessible(page, 'the dialog of a new import');
    await dialog.getByRole('button', { name: 'Believe it' }).click();
    await page.getByText('kiosks: its certificates are believed').waitFor();
    const print = 'ab'.repeat(32);
    const csv = `serial,product,device,fingerprint\n${print},camera,kiosk-1,${print}\n${print.replaceAll('a', 'c')},camera,kiosk-2,${print}\n`;
    await page.getByRole('button', { name: 'Add devices…' }).click();
    const file = { name: 'kiosks.csv', mimeType: 'text/csv', buffer: Buffer.from(csv) };
    await dialog.locator('input[type=file]').setInputFiles(file);
    await dialog.getByText(/shared/i).nth(1).waitFor();
    await dialog.getByLabel('A fingerprint that several devices have').selectOption('yes');
    await dialog.getByText('2 devices; nothing was written yet').waitFor();
    await dialog.getByRole('button', { name: 'Take them' }).click();
    await page.getByText('kiosks.csv: 2 devices of kiosks taken').waitFor();
    await page.getByText('2 not yet').waitFor();

    await stage.expect('HALL-2');
    await visit(page, '#/identity/claim-tokens', 'text=No claim token was made');
    await page.getByRole('button', { name: 'Make tokens…' }).click();
    await dialog.getByLabel('Manufacturer').selectOption('hall');
    await dialog.getByLabel('Serial numbers').fill('HALL-2');
    await dialog.getByRole('button', { name: 'Make 1 token' }).click();
    await page.getByText('1 token, shown once').waitFor();
    await page.getByRole('button', { name: 'I have them' }).click();
    await page.locator('tr').filter({ hasText: 'HALL-2' }).getByText('unused').waitFor();
  });

  test('a device is told what it should be, and a command comes to it', async () => {
    // The others' clients went when their product was held.
    const device = 'camera-00005';
    await stage.subscribe(device);
    const dialog = page.getByRole('dialog');
    await visit(page, `#/fleet/${device}`, '.pairs');
    await page.getByText('Nothing is desired of it').waitFor();
    await page.getByRole('button', { name: 'Set…' }).click();
    await dialog.getByLabel('Merge patch').fill('{"night_mode": true}');
    await dialog.getByRole('button', { name: 'What would stand there?' }).click();
    await dialog.getByText('Then desired').waitFor();
    await dialog.getByRole('button', { name: 'Set it' }).click();
    await page.getByText('version 1', { exact: true }).waitFor();
    await page.getByText('never reported', { exact: true }).waitFor();

    await page.getByRole('button', { name: 'Send…' }).click();
    await dialog.getByLabel('Channel').selectOption('camera-command');
    await dialog.getByLabel('Levels').fill('turn');
    await dialog.getByLabel('Payload').fill('left');
    await dialog.getByRole('button', { name: 'Whom would it reach?' }).click();
    await dialog.getByText('Nothing was sent yet.').waitFor();
    await dialog.getByRole('button', { name: 'Send it' }).click();
    const row = page.locator('tr').filter({ hasText: `v1/camera/${device}/command/turn` });
    await row.getByText('delivered', { exact: true }).waitFor();
  });

  test('every page is accessible in both themes and keeps to its policy', async () => {
    for (const theme of THEMES) {
      await page.emulateMedia({ colorScheme: theme });
      for (const [name, hash, ready] of PAGES) {
        await visit(page, hash, ready);
        await page.waitForTimeout(200);
        await accessible(page, `${name}, ${theme}`);
      }
    }
    expect(seen.faults).toEqual([]);
  });

  test('signing out ends it, here and at the plane', async () => {
    await page.getByRole('button', { name: 'sign out' }).click();
    await page.getByText('You are not signed in').waitFor();
    expect((await page.request.get(`${stage.origin}/api/v1/overview`)).status()).toBe(401);
  });
});
