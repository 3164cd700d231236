/** The pages against a story of our own: every page, both themes, hostile texts, broken streams. */

import type { Browser } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { Fixture, type Scene } from '../fixture/server.ts';
import { accessible, open, picture, type Seen, THEMES, type Theme, visit } from './support.ts';
import { launch } from './support.ts';

let browser: Browser;
let closing: (() => Promise<void>)[] = [];
beforeAll(async () => {
  browser = await launch();
});
afterAll(() => browser.close());
afterEach(async () => {
  for (const close of closing) await close();
  closing = [];
});

async function begin(scene: Scene, theme: Theme = 'light', hash = ''): Promise<Seen & { fixture: Fixture; origin: string }> {
  const fixture = new Fixture(scene);
  const origin = await fixture.listen();
  const seen = await open(browser, origin, theme);
  closing.push(async () => {
    await seen.context.close();
    fixture.close();
  });
  await seen.page.goto(`${origin}/${hash}`);
  return { ...seen, fixture, origin };
}

const PAGES: [name: string, hash: string, ready: string][] = [
  ['now', '#/now', 'h1'],
  ['incident', '#/incidents/INC-1', '.view svg[role=img]'],
  ['fleet', '#/fleet', 'td strong'],
  ['device', '#/fleet/camera-3', '.pairs'],
  ['alerts', '#/alerts', 'td'],
  ['sessions', '#/gateway/sessions', 'td'],
  ['denied', '#/gateway/denied', 'td'],
  ['speech', '#/gateway/speech?device=camera-3', 'td'],
  ['segments', '#/access/segments', '.cell'],
  ['plan', '#/access/plan', 'textarea'],
  ['commands', '#/gateway/commands', 'td'],
  ['command', '#/gateway/commands?command=CMD-0000000000000001', 'text=not subscribed'],
  ['playbooks', '#/playbooks', 'dl'],
  ['audit', '#/audit', 'td'],
  ['entry', '#/audit/3', 'text=Check the proof here'],
  ['your-fleet', '#/your-fleet', 'input[type=file]'],
  ['authorities', '#/identity/authorities', '.tree'],
  ['pending', '#/identity/pending', 'td'],
  ['certificates', '#/identity/certificates', 'td'],
  ['revocations', '#/identity/revocations', 'td'],
  ['imports', '#/identity/imports', 'progress'],
  ['claim-tokens', '#/identity/claim-tokens', 'text=Tokens of acme'],
  ['tpms', '#/identity/tpms', 'td'],
  ['served', '#/identity/served', '.chain'],
  ['you', '#/access/you', '.pairs'],
  ['approvals', '#/access/approvals', 'td'],
  ['people', '#/access/people', 'td'],
  ['tokens', '#/access/tokens', 'td'],
];

describe.each(THEMES)('in %s colours', (theme) => {
  test('every page is accessible and keeps to its policy', async () => {
    const { page, faults } = await begin('incident', theme);
    for (const [name, hash, ready] of PAGES) {
      await visit(page, hash, ready);
      await page.waitForTimeout(150);
      await accessible(page, `${name}, ${theme}`);
      await picture(page, `fixture-${name}-${theme}`);
    }
    expect(faults).toEqual([]);
  });

  test('calm, empty and signed out are accessible too', async () => {
    for (const scene of ['calm', 'empty'] as const) {
      const { page, faults } = await begin(scene, theme);
      await page.locator('.rest').waitFor();
      await page.waitForTimeout(150);
      await accessible(page, `${scene}, ${theme}`);
      await picture(page, `fixture-${scene}-${theme}`);
      for (const [name, hash] of PAGES.filter(([, hash]) => !/INC|camera|audit\/3/.test(hash))) {
        await visit(page, hash, 'h1');
        await page.waitForTimeout(120);
        await accessible(page, `${name}, ${scene}, ${theme}`);
        expect(faults, `${name}, ${scene}`).toEqual([]);
      }
      expect(faults).toEqual([]);
    }
    const { page, fixture, origin } = await begin('calm', theme);
    fixture.signedIn = false;
    await page.goto(`${origin}/#/fleet`);
    await page.reload();
    await page.getByText('You are not signed in').waitFor();
    await page.getByRole('button', { name: 'Sign in with Example' }).waitFor();
    await accessible(page, `signed out, ${theme}`);
    await picture(page, `fixture-signed-out-${theme}`);
  });
});

test('the first screen shows state, picture, steps and acts without scrolling', async () => {
  const { page } = await begin('incident');
  await page.locator('.view svg[role=img]').waitFor();
  const box = await page.evaluate(() => {
    const main = document.querySelector('main');
    return { content: main?.scrollHeight ?? 0, room: main?.clientHeight ?? 0, page: document.documentElement.scrollHeight };
  });
  expect(box.content).toBeLessThanOrEqual(box.room);
  expect(box.page).toBeLessThanOrEqual(800);
  for (const text of ['Restore…', 'Verify yourself', 'What happened']) {
    const place = await page.getByText(text).first().boundingBox();
    expect(place && place.y + place.height < 800, text).toBe(true);
  }
});

test('what is wider than a narrow window is scrolled by keyboard', async () => {
  const { page } = await begin('incident');
  await page.setViewportSize({ width: 640, height: 600 });
  for (const [name, hash, ready] of PAGES) {
    await visit(page, hash, ready);
    await accessible(page, name, 'scrollable-region-focusable');
  }
  await visit(page, '#/gateway/speech?device=camera-3', 'td');
  const table = page.getByRole('group', { name: 'Channels of camera-3' });
  await table.focus();
  await page.keyboard.press('ArrowRight');
  await expect.poll(() => table.evaluate((box) => box.scrollLeft)).toBeGreaterThan(0);
  await page.setViewportSize({ width: 2400, height: 800 });
  await table.waitFor({ state: 'detached' });
});

test('the map of two hundred groups is read by keyboard, searched and asked what was never used', async () => {
  const { page, faults } = await begin('calm', 'light', '#/access/segments');
  const cells = page.locator('[data-at]');
  await cells.first().waitFor();
  expect(await page.locator('tbody tr').count()).toBe(200);
  expect(await page.locator('[data-at][tabindex="0"]').count()).toBe(1);
  await page.locator('[data-at="0:0"]').focus();
  for (const key of ['ArrowRight', 'ArrowDown', 'ArrowDown', 'ArrowRight']) await page.keyboard.press(key);
  const at = await page.evaluate(() => document.activeElement?.getAttribute('data-at'));
  expect(at).toBe('2:11');
  await page.keyboard.press('Control+End');
  expect(await page.evaluate(() => document.activeElement?.getAttribute('data-at'))).toBe('199:99');
  await page.getByLabel('Search segments, channels and policies').fill('site-142');
  await page.getByText('product product-2, group site-142').first().waitFor();
  expect(await page.locator('tbody tr').count()).toBe(1);
  expect(await page.locator('[data-at]').count()).toBe(5);
  await page.getByLabel('Search segments, channels and policies').fill('');
  await page.getByLabel('Which grants').selectOption('unused');
  await page.locator('.granted.unused').first().waitFor();
  expect(await page.locator('.granted:not(.unused)').count()).toBe(0);
  expect(faults).toEqual([]);
});

test('a policy is judged while it is written, and nothing is applied', async () => {
  const { page, faults, fixture } = await begin('incident', 'light', '#/access/plan');
  const entries = fixture.log.leaves.length;
  const text = page.getByLabel('Its text');
  await text.fill('@id("x") forbid (principal in Group::"bta", action, resource);');
  await page.getByText('did you mean beta?').waitFor();
  await text.fill('@id("x") forbid (principal in Group::"beta", action, resource);');
  await page.getByText('4,120 would be refused').waitFor();
  await accessible(page, 'plan with an answer');
  await page.getByRole('button', { name: 'Undo all' }).click();
  await page.getByText('Change something').waitFor();
  expect(fixture.log.leaves.length).toBe(entries);
  expect(faults.filter((fault) => !fault.includes('422'))).toEqual([]);
});

test('the gateway shows who is connected, why somebody was denied, and what it may say, by keyboard', async () => {
  const { page, faults } = await begin('calm', 'light', '#/gateway');
  await page.getByRole('link', { name: 'device/camera-1', exact: true }).waitFor();
  await page.getByText('X25519MLKEM768').first().waitFor();
  await page.getByRole('link', { name: 'Why denied' }).focus();
  await page.keyboard.press('Enter');
  await page.getByText('/schedule/3/target', { exact: true }).waitFor();
  const rows = page.locator('tbody tr:not(.why)');
  expect(await rows.count()).toBe(3);
  await page.getByLabel('Which refusals').selectOption('contract');
  expect(await rows.count()).toBe(1);
  await page.getByRole('link', { name: 'What one may say' }).focus();
  await page.keyboard.press('Enter');
  await page.getByLabel('Name').fill('camera-1');
  await page.keyboard.press('Enter');
  await page.getByText('schemas/camera-state.json').waitFor();
  expect(page.url()).toContain('#/gateway/speech?device=camera-1');
  await visit(page, '#/gateway/speech?device=unknown', 'text=It may say and hear nothing');
  expect(faults).toEqual([]);
});

test('a command is rehearsed, sent, approved by a second person, and taken back', async () => {
  const { page, faults } = await begin('calm', 'light', '#/gateway/commands');
  await page.getByRole('button', { name: 'Send…' }).click();
  const dialog = page.getByRole('dialog');
  const act = dialog.getByRole('button', { name: 'Send it' });
  await dialog.getByLabel('Channel').selectOption('camera-command');
  await dialog.getByLabel('Levels').fill('reboot');
  await dialog.getByLabel('Names').fill('camera-1, camera-2, camera-3');
  await dialog.getByLabel('Payload').fill('{"delay_seconds":5}');
  expect(await act.isDisabled()).toBe(true);
  await dialog.getByRole('button', { name: 'Whom would it reach?' }).click();
  await dialog.getByText('it is held until a second person approves it').waitFor();
  await accessible(page, 'the dialog of a command');
  await dialog.getByLabel('Names').fill('camera-1');
  expect(await dialog.getByText('Nothing was sent yet.').count(), 'another target is another rehearsal').toBe(0);
  await dialog.getByRole('button', { name: 'Whom would it reach?' }).click();
  await act.click();
  await page.getByText('CMD-0000000000000003 is on its way.').waitFor();
  await page.getByRole('link', { name: 'camera-1', exact: true }).waitFor();
  expect(page.url()).toContain('command=CMD-0000000000000003');

  await page.getByRole('link', { name: 'CMD-0000000000000002' }).click();
  await page.getByRole('button', { name: 'Approve it' }).click();
  await page.getByText('CMD-0000000000000002 is approved and goes out.').waitFor();
  await page.getByRole('button', { name: 'Take it back…' }).click();
  expect(await dialog.getByRole('button', { name: 'Take it back' }).isDisabled()).toBe(true);
  await dialog.getByLabel('Reason').fill('the wrong product');
  await accessible(page, 'the dialog that takes a command back');
  await dialog.getByRole('button', { name: 'Take it back' }).click();
  await page.getByText('CMD-0000000000000002 is taken back: 12 devices will not get it.').waitFor();
  await page.getByLabel('Which devices').selectOption('refused');
  await page.getByText('No device is in this state').waitFor();
  expect(faults).toEqual([]);
});

test('what a device should be is changed at the version that was read', async () => {
  const { page, faults } = await begin('calm', 'light', '#/fleet/camera-1');
  await page.getByText('differs', { exact: true }).waitFor();
  await page.getByRole('button', { name: 'Set…' }).click();
  const dialog = page.getByRole('dialog');
  const act = dialog.getByRole('button', { name: 'Set it' });
  await dialog.getByLabel('Merge patch').fill('{"night_mode": false, "interval_seconds": null}');
  expect(await act.isDisabled()).toBe(true);
  await dialog.getByRole('button', { name: 'What would stand there?' }).click();
  await dialog.getByText('Then desired').waitFor();
  await accessible(page, 'the dialog of a desired state');
  await act.click();
  await page.getByText('version 4').waitFor();
  await page.getByText('as desired', { exact: true }).waitFor();
  await page.getByText('Set; recorded as').waitFor();
  await page.getByRole('button', { name: 'Send…' }).click();
  await dialog.getByText('Send a command to camera-1?').waitFor();
  expect(await dialog.getByLabel('Names').count(), 'it goes to this device').toBe(0);
  expect(faults).toEqual([]);
});

test('a link signs in once, and its token is gone from the address', async () => {
  const { page, fixture, origin } = await begin('calm');
  fixture.signedIn = false;
  await page.goto('about:blank');
  await page.goto(`${origin}/#sign-in=good-good-good-good`);
  await page.locator('.rest').waitFor();
  expect(page.url()).toBe(`${origin}/#/now`);
  await page.getByRole('button', { name: 'sign out' }).click();
  await page.getByText('You are not signed in').waitFor();
  await page.goto('about:blank');
  await page.goto(`${origin}/#sign-in=spent-spent-spent-x`);
  await page.getByText('the link is unknown, used or expired').waitFor();
  expect(page.url()).not.toContain('spent');
});

test('hostile texts from devices are inert, and what would hide in them is shown', async () => {
  const { page, faults } = await begin('hostile');
  const inert = async () => {
    expect(await page.title()).not.toContain('pwned');
    expect(await page.locator('main img, main script, main [onerror], main a[href^="javascript:"]').count()).toBe(0);
  };
  for (const [, hash, ready] of PAGES) {
    await visit(page, hash, ready);
    await inert();
  }
  for (let i = 0; i < 8; i++) {
    await visit(page, `#/fleet/hostile-${i}`, '.pairs');
    await inert();
  }
  await visit(page, '#/identity/pending', 'text=hall-4');
  expect(await page.locator('td .unseen').allInnerTexts()).toContain('U+202E');
  // What the address asks for is a text of others as well.
  await visit(page, `#/identity/certificates?holder=${encodeURIComponent('<img src=x onerror=alert(1)>\u202e')}`, 'text=Only those of');
  await inert();
  await visit(page, '#/fleet', 'text=hostile-4');
  expect(await page.locator('td .unseen').allInnerTexts()).toContain('U+202E');
  // A name out of the address bar is a text of others too.
  await visit(page, `#/fleet/${encodeURIComponent('<img src=x onerror=alert(1)>\u202e')}`, 'h1');
  await inert();
  await visit(page, '#/audit/310', 'text=Check the proof here');
  await page.getByText('Check the proof here').click();
  await page.getByText('Proven.').waitFor();
  await inert();
  expect(faults).toEqual([]);
});

test('a proof is checked in the page, and a log that was tampered with is not believed', async () => {
  const { page, fixture } = await begin('incident', 'light', '#/audit/5');
  await page.getByText('Check the proof here').click();
  await page.getByText('Proven.').waitFor();
  await accessible(page, 'a proof');
  await picture(page, 'fixture-proof');
  const before = fixture.log.leaves.slice(0, 5).reduce((sum, leaf) => sum + 2 + leaf.length, 0);
  fixture.logFile = (path) => {
    const file = fixture.log.file(path);
    if (path === 'tile/entries/000' && file) file[before + 20]! ^= 1;
    return file;
  };
  for (const [index, holds] of [[4, true], [5, false], [6, true]] as const) {
    await visit(page, `#/audit/${index}`, `h2:text-is("Entry ${index}")`);
    await page.getByText('Check the proof here').click();
    await page.locator(holds ? '.verdict.good' : '.verdict.bad').waitFor();
  }
  fixture.logFile = (path) => (path === 'checkpoint' ? Buffer.from(fixture.log.checkpoint().replace('\n3', '\n4')) : fixture.log.file(path));
  await page.getByText('Check again').or(page.getByText('Check the proof here')).click();
  await page.getByText('It does not hold.').waitFor();
  await accessible(page, 'a refused proof');
});

test('contain and restore ask first and say what they take and give', async () => {
  const { page } = await begin('incident');
  await page.getByRole('button', { name: 'Restore…' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByText('camera-telemetry').waitFor();
  await accessible(page, 'the restore dialog');
  await picture(page, 'fixture-restore');
  await page.keyboard.press('Escape');
  await page.getByRole('dialog').waitFor({ state: 'detached' });
  await page.getByRole('button', { name: 'Restore…' }).click();
  await dialog.getByRole('button', { name: 'Restore it' }).click();
  await page.getByText('Restored; recorded').waitFor();
  await page.getByRole('button', { name: 'Quarantine…' }).click();
  await dialog.getByText('What it takes away').waitFor();
  expect(await dialog.getByRole('button', { name: 'Quarantine it' }).isDisabled()).toBe(true);
  await dialog.getByLabel('Reason').fill('seen again');
  await accessible(page, 'the contain dialog');
  await dialog.getByRole('button', { name: 'Quarantine it' }).click();
  await page.getByText('in force on every shard').waitFor();
});

test('a product is cut off by whoever types its name, and undoing shows who stays cut off', async () => {
  const { page } = await begin('incident', 'light', '#/fleet');
  await page.getByRole('button', { name: 'Cut a group off…' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByLabel('Who').selectOption('product/camera');
  await dialog.getByText('would be cut off at once').waitFor();
  const act = dialog.getByRole('button', { name: 'Quarantine them' });
  await dialog.getByLabel('Reason').fill('a worm in 1.2');
  expect(await act.isDisabled()).toBe(true);
  await dialog.getByLabel(/Type the name/).fill('camera');
  await accessible(page, 'the dialog that cuts a group off');
  await act.click();
  await page.getByText('product/camera: ').first().waitFor();
  await page.getByRole('button', { name: 'Undo…' }).click();
  await dialog.getByText('would get back').waitFor();
  await dialog.getByText('stay cut off:').waitFor();
  await dialog.getByLabel('Reason').fill('patched');
  await accessible(page, 'the dialog that undoes it');
  await dialog.getByRole('button', { name: 'Give it back' }).click();
  await page.getByText('restored.').waitFor();
  // The list is read again after that was said.
  await page.getByRole('button', { name: 'Undo…' }).waitFor({ state: 'detached' });
});

test('the keyboard goes everywhere', async () => {
  const { page } = await begin('incident');
  await page.locator('.view').waitFor();
  await page.keyboard.press('Tab');
  expect(await page.evaluate(() => document.activeElement?.textContent)).toContain('Skip');
  await page.keyboard.press('g');
  await page.keyboard.press('f');
  await page.locator('td strong').first().waitFor();
  await page.keyboard.press('/');
  await page.keyboard.type('lock-2');
  await page.getByText('1 device found').waitFor();
  await page.keyboard.press('Tab');
  await page.locator('a[data-row]').first().focus();
  await page.keyboard.press('Enter');
  await page.locator('h1:text("lock-2")').waitFor();
  await page.keyboard.press('g');
  await page.keyboard.press('i');
  await page.locator('.tree').first().waitFor();
  await page.getByRole('link', { name: 'Certificates', exact: true }).focus();
  await page.keyboard.press('Enter');
  await page.locator('a[data-row]').first().waitFor();
  await page.locator('a[data-row]').first().focus();
  await page.keyboard.press('ArrowDown');
  await page.keyboard.press('Enter');
  await page.locator('.pairs').waitFor();
  await page.keyboard.press('g');
  await page.keyboard.press('n');
  await page.locator('.view').waitFor();
});

test('a broken stream is said, and mended by itself', async () => {
  const { page, fixture } = await begin('incident');
  await page.locator('.live.live').waitFor();
  fixture.drop();
  await page.locator('.live.reconnecting').waitFor();
  await page.locator('.live.live').waitFor({ timeout: 30_000 });
});

test('a CSV of your own is judged and an import is rehearsed', async () => {
  const { page } = await begin('incident', 'light', '#/your-fleet');
  const csv = { name: 'fleet.csv', mimeType: 'text/csv', buffer: Buffer.from('serial,certificate\nSN-1,x\nSN-2,x\n') };
  await page.locator('input[type=file]').setInputFiles(csv);
  await page.getByText('3 findings in 2 rows').waitFor();
  await accessible(page, 'findings');
  await picture(page, 'fixture-findings');
  await visit(page, '#/fleet', 'td strong');
  await page.getByRole('button', { name: 'Import CSV…' }).click();
  await page.locator('dialog input[type=file]').setInputFiles(csv);
  await page.getByText('1 to add').waitFor();
  await accessible(page, 'the import dialog');
  await page.getByRole('dialog').getByRole('button', { name: 'Import', exact: true }).click();
  await page.getByText('1 device added').waitFor();
});

test('who waits is decided by the keyboard alone, with a reason', async () => {
  const { page } = await begin('calm', 'light', '#/identity/pending');
  await page.locator('td').first().waitFor();
  await page.locator('tbody [data-row]').first().focus();
  await page.keyboard.press('ArrowDown');
  expect(await page.evaluate(() => document.activeElement?.closest('tr')?.textContent)).toContain('SN-9002');
  await page.keyboard.press('ArrowUp');
  await page.keyboard.press('a');
  const dialog = page.getByRole('dialog');
  await dialog.getByText('Approve this device?').waitFor();
  expect(await dialog.getByRole('button', { name: 'Approve it' }).isDisabled(), 'it must be said what it is').toBe(true);
  await dialog.getByLabel('Product').selectOption('camera');
  await dialog.getByLabel('Name').fill('hall-1');
  await dialog.getByLabel('Reason').fill('seen on the bench');
  await accessible(page, 'the approve dialog');
  await picture(page, 'fixture-approve');
  await page.keyboard.press('Enter');
  await page.getByText('hall-1 is approved as camera').waitFor();
  await page.getByRole('button', { name: 'Refuse… SN-9002' }).focus();
  await page.keyboard.press('r');
  await dialog.getByText('Refuse this device?').waitFor();
  await page.keyboard.press('Escape');
  await page.getByRole('dialog').waitFor({ state: 'detached' });
  expect(await page.evaluate(() => document.activeElement?.textContent), 'the focus comes back').toContain('Refuse');
});

test('a device is held, its receipt proven in the page, and released', async () => {
  const { page, faults } = await begin('calm', 'light', '#/fleet/lock-2');
  await page.getByRole('button', { name: 'Revoke…' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByText('1 device, 1 certificate, 1 session').waitFor();
  expect(await dialog.getByRole('button', { name: 'Revoke it' }).isDisabled(), 'a reason first').toBe(true);
  await dialog.getByLabel('Reason').selectOption('certificate-hold');
  await accessible(page, 'the revoke dialog');
  await picture(page, 'fixture-revoke');
  await dialog.getByRole('button', { name: 'Put it on hold' }).click();
  const receipt = page.getByRole('region', { name: 'Receipt' });
  await receipt.getByText('Device lock-2 is on hold.').waitFor();
  expect(await receipt.innerText()).toContain('412 µs');
  await receipt.getByRole('button', { name: 'Check the proof here' }).click();
  await receipt.getByText(/Proven: it is entry \d+/).waitFor();
  await accessible(page, 'a receipt');
  await picture(page, 'fixture-receipt');
  await page.getByRole('button', { name: 'Release…' }).click();
  await dialog.getByLabel('Reason').fill('it was a mistake');
  await accessible(page, 'the release dialog');
  await dialog.getByRole('button', { name: 'Release it' }).click();
  await page.getByText('Released; recorded as entry').waitFor();
  expect(faults).toEqual([]);
});

test('a CA and a product are revoked only by whoever types their name', async () => {
  const { page } = await begin('calm', 'light', '#/identity/authorities');
  await page.locator('.branches li').first().getByRole('button', { name: 'Revoke…' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByText('would be barred').waitFor();
  await dialog.getByLabel('Reason').selectOption('ca-compromise');
  const act = dialog.getByRole('button', { name: 'Revoke it' });
  expect(await act.isDisabled()).toBe(true);
  await dialog.getByLabel(/Type the name/).fill('camera');
  expect(await act.isDisabled()).toBe(true);
  await page.keyboard.press('Enter');
  expect(await dialog.count(), 'nor does Enter go around it').toBe(1);
  await dialog.getByLabel(/Type the name/).fill('cameras');
  await accessible(page, 'the revoke dialog of a CA');
  await act.click();
  await page.getByText('CA cameras is revoked.').waitFor();
  await page.locator('.branches li').first().getByText('revoked', { exact: true }).waitFor();
});

test('the address says which certificates are shown', async () => {
  const { page } = await begin('calm', 'light', '#/identity/certificates');
  await page.locator('td').first().waitFor();
  const rows = page.locator('tbody tr');
  expect(await rows.count()).toBe(14);
  await page.getByLabel('State').selectOption('superseded');
  await page.waitForURL(/state=superseded/);
  await expect.poll(() => rows.count()).toBe(1);
  await page.getByText('retires in').waitFor();
  await page.goBack();
  await expect.poll(() => rows.count()).toBe(14);
  await page.getByRole('link', { name: /^RSA 2048/ }).click();
  await expect.poll(() => rows.count()).toBe(2);
  await page.getByLabel('Ending within').selectOption('7');
  await page.getByText('No certificate fits').waitFor();
  await page.getByRole('link', { name: 'All of them' }).click();
  await expect.poll(() => rows.count()).toBe(14);
});

test('fresh claim tokens are shown once', async () => {
  const { page } = await begin('calm', 'light', '#/identity/claim-tokens');
  await page.getByRole('button', { name: 'Make tokens…' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByLabel('Serial numbers').fill('SN-1\nSN-2\nSN-2');
  await accessible(page, 'the dialog of tokens');
  await dialog.getByRole('button', { name: 'Make 2 tokens' }).click();
  await page.getByText('2 tokens, shown once').waitFor();
  await accessible(page, 'fresh tokens');
  const secret = await page.locator('.fresh .mono').first().innerText();
  await page.getByRole('button', { name: 'Copy as CSV' }).click();
  await page.getByText('copied').waitFor();
  expect(await page.evaluate(() => navigator.clipboard.readText())).toContain(`SN-1,${secret}`);
  await visit(page, '#/identity/served', '.chain');
  await visit(page, '#/identity/claim-tokens', 'text=Tokens of acme');
  expect(await page.content()).not.toContain(secret);
  await page.getByRole('button', { name: 'Withdraw… SN-5001' }).click();
  await dialog.getByRole('button', { name: 'Withdraw', exact: true }).click();
  await page.getByText('opens nothing any more').waitFor();
});

test('an existing fleet is rehearsed before it is taken, and retired by its name', async () => {
  const { page } = await begin('hostile', 'light', '#/identity/imports');
  const row = page.locator('tr').filter({ hasText: 'kiosks' });
  await row.getByRole('button', { name: 'Add devices…' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.locator('input[type=file]').setInputFiles({ name: 'old.csv', mimeType: 'text/csv', buffer: Buffer.from('serial,product\nA,camera\nB,camera\n') });
  await dialog.getByText('2 devices; nothing was written yet').waitFor();
  await dialog.getByText('Sharing: 2').waitFor();
  expect(await page.title()).not.toContain('pwned');
  await accessible(page, 'a rehearsed import');
  await dialog.getByRole('button', { name: 'Take them' }).click();
  await page.getByText('old.csv: 2 devices of kiosks taken').waitFor();
  await row.getByRole('button', { name: 'Retire…' }).click();
  await dialog.getByText('3 devices have not moved').waitFor();
  await dialog.getByLabel('Type its name').fill('kiosk');
  expect(await dialog.getByRole('button', { name: 'Retire it' }).isDisabled()).toBe(true);
  await dialog.getByLabel('Type its name').fill('kiosks');
  await accessible(page, 'the retire dialog');
  await dialog.getByRole('button', { name: 'Retire it' }).click();
  await page.getByText('kiosks is retired: 2 sessions closed, 3 devices left behind').waitFor();
});

test('a person is added, changed and disabled; the link is shown once', async () => {
  const { page, faults } = await begin('calm', 'light', '#/access/people');
  await page.getByRole('button', { name: 'Add a person…' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByLabel('Name').fill('Mary Jackson');
  await dialog.getByRole('checkbox', { name: /^auditor/ }).check();
  await accessible(page, 'the dialog of a person');
  await picture(page, 'fixture-person');
  await dialog.getByRole('button', { name: 'Add and make a link' }).click();
  await page.getByText('A sign-in link for Mary Jackson, shown once').waitFor();
  await accessible(page, 'a link, once');
  await page.getByRole('button', { name: 'Copy', exact: true }).click();
  expect(await page.evaluate(() => navigator.clipboard.readText())).toContain('#sign-in=a-link-that-works-once');
  await page.getByRole('button', { name: 'I have it' }).click();
  expect(await page.content()).not.toContain('a-link-that-works-once');
  const row = page.locator('tr').filter({ hasText: 'Grace Hopper' });
  await row.getByRole('button', { name: 'Change…' }).click();
  await dialog.getByRole('checkbox', { name: /^pki-admin/ }).uncheck();
  await dialog.getByRole('button', { name: 'Change' }).click();
  await page.getByText('it holds at once').waitFor();
  expect(await row.innerText()).not.toContain('pki-admin');
  await row.getByRole('button', { name: 'Take a passkey…' }).click();
  await dialog.getByLabel('Passkey').selectOption('k-02');
  await accessible(page, 'the dialog of a lost passkey');
  await dialog.getByRole('button', { name: 'Take it away' }).click();
  await row.getByText('1 passkey').waitFor();
  await row.getByRole('button', { name: 'Disable…' }).click();
  await dialog.getByRole('button', { name: 'Disable' }).click();
  await row.getByText('disabled').waitFor();
  await page.getByText('no-role-for-groups').waitFor();
  expect(faults).toEqual([]);
});

test('what needs a second person says so, and stands among the approvals', async () => {
  const { page } = await begin('calm', 'light', '#/access/people');
  await page.getByRole('button', { name: 'Add a person…' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByRole('checkbox', { name: /^tenant-admin/ }).check();
  await dialog.getByRole('button', { name: 'Add and make a link' }).click();
  await dialog.getByText('It waits for another person.').waitFor();
  await accessible(page, 'what waits');
  await dialog.getByRole('link', { name: 'Approvals' }).click();
  const row = page.locator('tr').filter({ hasText: 'a-09' });
  await row.getByRole('button', { name: 'Withdraw…' }).click();
  await dialog.getByRole('button', { name: 'Withdraw it' }).click();
  await page.getByText('Withdrawn: it will not be done.').waitFor();
  await page.locator('tr').filter({ hasText: 'a-09' }).getByText('not done').waitFor();
});

test('an act is approved by whoever has seen all of it, and its secret is shown once', async () => {
  const { page, faults } = await begin('hostile', 'light', '#/access/approvals');
  await page.getByRole('button', { name: 'Look and approve… a-01' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByText('Exactly this was sent').waitFor();
  expect(await dialog.locator('.sent').innerText()).toContain('"plan": "p1"');
  expect(await page.title()).not.toContain('pwned');
  await accessible(page, 'an act that waits');
  await picture(page, 'fixture-approval');
  await page.keyboard.press('Escape');
  await page.getByRole('button', { name: 'Look at it… a-03' }).click();
  await dialog.getByText('It is your own').waitFor();
  expect(await dialog.getByRole('button', { name: 'Approve it' }).count()).toBe(0);
  await page.keyboard.press('Escape');
  await page.getByRole('button', { name: 'Look and approve… a-02' }).click();
  await dialog.getByRole('button', { name: 'Approve it, and do it now' }).click();
  await page.getByText('Approved and done: Make a token for a program.').waitFor();
  await page.getByText('fwt_of-an-approved-act').waitFor();
  await visit(page, '#/access/tokens', 'td');
  expect(await page.content()).not.toContain('fwt_of-an-approved-act');
  expect(faults).toEqual([]);
});

test('a token is shown once and revoked', async () => {
  const { page } = await begin('calm', 'light', '#/access/tokens');
  await page.getByRole('button', { name: 'Make a token…' }).click();
  const dialog = page.getByRole('dialog');
  expect(await dialog.getByRole('checkbox', { name: /^tenant-admin/ }).count(), 'no program makes people').toBe(0);
  await dialog.getByLabel('What it is for').fill('nightly');
  await dialog.getByLabel('Days').fill('400');
  expect(await dialog.getByRole('button', { name: 'Make it' }).isDisabled()).toBe(true);
  await dialog.getByLabel('Days').fill('30');
  await accessible(page, 'the dialog of a token');
  await dialog.getByRole('button', { name: 'Make it' }).click();
  await page.getByText('fwt_a-secret-that-is-shown-once').waitFor();
  await accessible(page, 'a token, once');
  await page.getByRole('button', { name: 'Revoke… nightly' }).click();
  await dialog.getByRole('button', { name: 'Revoke' }).click();
  await page.locator('tr').filter({ hasText: 'nightly' }).getByText('revoked').waitFor();
});

test('who may not do something is not offered it', async () => {
  const { page, fixture } = await begin('incident');
  fixture.onlooker = 'viewer';
  await page.reload();
  await page.locator('.view svg[role=img]').waitFor();
  for (const hash of ['#/now', '#/fleet', '#/fleet/camera-3', '#/identity/pending', '#/identity/claim-tokens', '#/identity/revocations', '#/access/approvals']) {
    await visit(page, hash, 'h1');
    await page.waitForTimeout(150);
    for (const act of ['Restore…', 'Quarantine…', 'Cut a group off…', 'Revoke…', 'Approve…', 'Make tokens…', 'Look and approve…']) {
      expect(await page.getByRole('button', { name: act }).count(), `${hash} ${act}`).toBe(0);
    }
  }
  await visit(page, '#/access/people', '.cell');
  expect(await page.getByRole('link', { name: 'Tokens' }).count()).toBe(0);
  // Somebody with people and tokens alone sees nothing of the fleet, and is led to what is theirs.
  fixture.onlooker = 'tenant-admin';
  await page.reload();
  await visit(page, '#/access/you', 'text=Who you are here');
  expect(await page.getByRole('link', { name: 'Fleet' }).count()).toBe(0);
  await accessible(page, 'a tenant-admin');
  await page.getByRole('link', { name: 'Tokens' }).click();
  await page.locator('td').first().waitFor();
});

test('whoever goes elsewhere just as they would be sent on is let go, and no step back is a dead end', async () => {
  const { page, fixture, origin } = await begin('incident');
  fixture.onlooker = 'tenant-admin';
  await page.addInitScript(() => {
    // The plane's answer who this is comes between the click and the browser's word of it.
    const text = Response.prototype.text;
    Response.prototype.text = async function () {
      const said = await text.call(this);
      if (this.url.endsWith('/whoami') && location.hash === '#/access/segments') location.hash = '#/access/you';
      return said;
    };
  });
  await page.goto(`${origin}/#/access/segments`);
  await page.reload();
  await page.getByText('Who you are here').first().waitFor();
  // Nothing of the fleet is theirs: the address says where they are instead, and back is where they were.
  await visit(page, '#/fleet', 'text=Who you are here');
  await page.waitForURL('**/#/access/you');
  await page.goBack();
  await page.waitForURL('**/#/access/you');
  await page.goBack();
  // What is not theirs here either is replaced by the first that is.
  await page.waitForURL('**/#/access/approvals');
});

test('a dangerous act asks once more who it is, and says what to do where nothing can be asked', async () => {
  const { page, fixture } = await begin('calm', 'light', '#/access/tokens');
  fixture.fresh = false;
  await page.getByRole('button', { name: 'Revoke… ci' }).click();
  const dialog = page.getByRole('dialog').last();
  await dialog.getByRole('button', { name: 'Revoke' }).click();
  await page.getByRole('heading', { name: 'Is it you?' }).waitFor();
  await dialog.getByText('sign in by a new one').waitFor();
  await accessible(page, 'the question who it is');
  await dialog.getByRole('button', { name: 'Close' }).click();
  await page.getByText('this is dangerous enough to ask again who you are').waitFor();
  await page.keyboard.press('Escape');
  await page.locator('tr').filter({ hasText: 't-01' }).getByText('revoked').waitFor({ state: 'hidden' });
});
