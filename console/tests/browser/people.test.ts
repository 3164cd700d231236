/** How people sign in on a real plane: passkeys by Chromium's own authenticator, a real OpenID provider, two persons. */

import type { Browser, BrowserContext, CDPSession, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { CLIENT, IdentityProvider, SECRET, tell, type Token } from './provider.ts';
import { Stage } from './stage.ts';
import { accessible, freshPages, launch, open, type Seen, THEMES, visit } from './support.ts';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A security key with a fingerprint reader that is always touched. */
async function authenticator(page: Page): Promise<{ session: CDPSession; id: string }> {
  const session = await page.context().newCDPSession(page);
  await session.send('WebAuthn.enable');
  const { authenticatorId } = await session.send('WebAuthn.addVirtualAuthenticator', {
    options: { protocol: 'ctap2', transport: 'internal', hasResidentKey: true, hasUserVerification: true, isUserVerified: true, automaticPresenceSimulation: true },
  });
  return { session, id: authenticatorId };
}

let browser: Browser;
let provider: IdentityProvider;
let stage: Stage;
let secrets: string;
beforeAll(async () => {
  [browser, provider, secrets] = await Promise.all([launch(), IdentityProvider.listen(), mkdtemp(join(tmpdir(), 'fleetward-secret-'))]);
  const file = join(secrets, 'client');
  await writeFile(file, `${SECRET}\n`);
  await chmod(file, 0o600);
  stage = await Stage.open(
    `[access.provider]\nissuer = "${provider.issuer}"\nname = "Example"\nclient_id = "${CLIENT}"\nclient_secret_file = "${file}"\n` +
      'roles = { fleet-operators = ["operator"], fleet-admins = ["tenant-admin", "pki-admin"] }\n',
  );
  provider.serve(stage.origin);
});
afterAll(async () => {
  await browser?.close();
  await stage?.close();
  provider?.close();
  await rm(secrets, { recursive: true, force: true });
});

/** One story in order: each test goes on where the one before it ended. */
describe.sequential('passkeys and two persons', () => {
  let seen: Seen;
  let page: Page;
  let first: { session: CDPSession; id: string };
  let second: Seen;

  beforeAll(async () => {
    seen = await open(browser, stage.origin);
    page = seen.page;
    await freshPages(page);
    first = await authenticator(page);
  });

  test('whoever came by a link adds a passkey, and sees what they may', async () => {
    await page.goto(await stage.link());
    await page.getByRole('button', { name: 'sign out' }).waitFor();
    await visit(page, '#/access/you', 'text=You have no passkey');
    await accessible(page, 'no passkey');
    await page.getByRole('button', { name: 'Add a passkey…' }).click();
    const dialog = page.getByRole('dialog');
    await dialog.getByLabel('What you call it').fill('laptop');
    await accessible(page, 'the dialog of a passkey');
    await dialog.getByRole('button', { name: 'Make it' }).click();
    await page.getByText('Your passkey is added').waitFor();
    await page.locator('tr').filter({ hasText: 'laptop' }).waitFor();
    await page.getByText('dangerous acts ask for your passkey').waitFor();
    const { credentials } = await first.session.send('WebAuthn.getCredentials', { authenticatorId: first.id });
    expect(credentials.map((one) => [one.rpId, one.isResidentCredential])).toEqual([['localhost', true]]);
    for (const theme of THEMES) {
      await page.emulateMedia({ colorScheme: theme });
      await accessible(page, `you, ${theme}`);
    }
  });

  test('a dangerous act asks for the passkey, then goes on by itself', async () => {
    await visit(page, '#/access/tokens', 'text=No program has a token');
    await page.getByRole('button', { name: 'Make a token…' }).click();
    const dialog = page.getByRole('dialog');
    await dialog.getByLabel('What it is for').fill('ci');
    await dialog.getByRole('button', { name: 'Make it' }).click();
    await page.getByRole('heading', { name: 'Is it you?' }).waitFor();
    await accessible(page, 'the question who it is');
    await page.getByRole('button', { name: 'Use your passkey' }).click();
    await page.getByRole('heading', { name: /shown once/ }).waitFor();
    const secret = await page.locator('.secret').innerText();
    expect(secret).toMatch(/^fwt_/);
    expect((await page.request.get(`${stage.origin}/api/v1/inventory/devices`, { headers: { authorization: `Bearer ${secret}` } })).status()).toBe(200);
    await page.getByRole('button', { name: 'Revoke… ci' }).click();
    await dialog.getByRole('button', { name: 'Revoke' }).click();
    // Within five minutes nothing more is asked.
    await page.locator('tr').filter({ hasText: 'ci' }).getByText('revoked').waitFor();
    const answer = await page.request.get(`${stage.origin}/api/v1/inventory/devices`, { headers: { authorization: `Bearer ${secret}` } });
    expect(answer.status()).toBe(401);
  });

  test('signed out, the passkey alone signs in', async () => {
    await page.getByRole('button', { name: 'sign out' }).click();
    await page.getByText('You are not signed in').waitFor();
    await accessible(page, 'signed out');
    await page.getByRole('button', { name: 'Sign in with a passkey' }).click();
    await page.getByRole('button', { name: 'sign out' }).waitFor();
    await visit(page, '#/access/you', 'text=by a passkey');
  });

  test('one whose holder is not verified signs nobody in, and says so', async () => {
    await page.getByRole('button', { name: 'sign out' }).click();
    await page.getByText('You are not signed in').waitFor();
    await first.session.send('WebAuthn.setUserVerified', { authenticatorId: first.id, isUserVerified: false });
    await page.getByRole('button', { name: 'Sign in with a passkey' }).click();
    await page.getByText('No passkey was used').waitFor();
    await first.session.send('WebAuthn.setUserVerified', { authenticatorId: first.id, isUserVerified: true });
    await page.getByRole('button', { name: 'Sign in with a passkey' }).click();
    await page.getByRole('button', { name: 'sign out' }).waitFor();
    await visit(page, '#/access/you', 'text=by a passkey');
  });

  test('strong roles wait for a second person, who sees all of it, approves by a passkey, and it is done', async () => {
    await visit(page, '#/access/people', 'td');
    const dialog = page.getByRole('dialog');
    const add = async (name: string, role: RegExp) => {
      await page.getByRole('button', { name: 'Add a person…' }).click();
      await dialog.getByLabel('Name').fill(name);
      await dialog.getByRole('checkbox', { name: role }).check();
      await dialog.getByRole('button', { name: 'Add and make a link' }).click();
    };
    await add('Grace', /^tenant-admin/);
    await page.getByText('A sign-in link for Grace, shown once').waitFor();
    const link = await page.locator('.secret').innerText();
    second = await open(browser, stage.origin);
    await freshPages(second.page);
    await authenticator(second.page);
    await second.page.goto(`${stage.origin}/${new URL(link).hash}`);
    await second.page.getByRole('button', { name: 'sign out' }).waitFor();
    await visit(second.page, '#/access/you', 'text=You have no passkey');
    await second.page.getByRole('button', { name: 'Add a passkey…' }).click();
    await second.page.getByRole('dialog').getByRole('button', { name: 'Make it' }).click();
    await second.page.getByText('Your passkey is added').waitFor();
    // From now on there are two.
    await add('Mallory', /^tenant-admin/);
    await dialog.getByText('It waits for another person.').waitFor();
    await dialog.getByRole('link', { name: 'Approvals' }).click();
    const own = page.locator('tr').filter({ hasText: 'Add a person' }).first();
    await expect.poll(() => own.innerText()).toMatch(/\byou\b/);
    expect(await own.getByRole('button', { name: /approve/ }).count(), 'nobody approves their own').toBe(0);

    await visit(second.page, '#/access/approvals', 'td');
    await second.page.getByRole('button', { name: /Look and approve…/ }).first().click();
    const shown = second.page.getByRole('dialog').first();
    await shown.getByText('"name": "Mallory"').waitFor();
    await accessible(second.page, 'an act that waits');
    await shown.getByRole('button', { name: 'Approve it, and do it now' }).click();
    await second.page.getByRole('button', { name: 'Use your passkey' }).click();
    await second.page.getByText('Approved and done: Add a person.').waitFor();
    await second.page.getByText('#sign-in=').waitFor();
    expect(second.faults).toEqual([]);
  });

  test('who lost a passkey has it taken away, and is out', async () => {
    await visit(page, '#/access/people', 'td');
    const row = page.locator('tr').filter({ hasText: 'Grace' });
    await row.getByText('1 passkey').waitFor();
    await row.getByRole('button', { name: 'Take a passkey…' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Take it away' }).click();
    await page.getByText('their sessions ended').waitFor();
    await second.page.reload();
    await second.page.getByText('You are not signed in').waitFor();
    await second.page.getByRole('button', { name: 'Sign in with a passkey' }).click();
    await second.page.getByText('this passkey opens nothing here').waitFor();
    await visit(page, '#/access/tokens', 'td');
    await visit(page, '#/access/people', 'text=passkey-unknown');
    await second.context.close();
  });

  test('the last passkey is removed, by a passkey', async () => {
    await visit(page, '#/access/you', 'td');
    await page.getByRole('button', { name: 'Remove… laptop' }).click();
    await page.getByText('It is your last').waitFor();
    await accessible(page, 'the dialog of the last passkey');
    await page.getByRole('dialog').getByRole('button', { name: 'Remove it' }).click();
    await page.getByText('You have no passkey').waitFor();
    expect(seen.faults).toEqual([]);
    await seen.context.close();
  });
});

describe.sequential('an OpenID provider', () => {
  let contexts: BrowserContext[] = [];
  afterEach(async () => {
    provider.bend = undefined;
    provider.silent = false;
    for (const context of contexts) await context.close();
    contexts = [];
  });

  /** A browser that may go to the provider too. */
  async function fresh(): Promise<Page> {
    const context = await browser.newContext({ ignoreHTTPSErrors: true, reducedMotion: 'reduce' });
    contexts.push(context);
    const page = await context.newPage();
    await freshPages(page);
    await page.goto(stage.origin);
    await page.getByText('You are not signed in').waitFor();
    return page;
  }

  /** As a person: the provider's own pages, then back. */
  async function atProvider(page: Page, login: string): Promise<void> {
    await page.locator('input[name=login]').fill(login);
    await page.locator('input[name=password]').fill('any');
    await page.locator('button[type=submit]').click();
    const consent = page.getByRole('button', { name: 'Continue' });
    const back = page.waitForURL(`${stage.origin}/**`);
    await Promise.race([back, consent.click().then(() => back)]).catch(() => back);
    await back;
    // In, or told why not.
    await page.getByRole('button', { name: 'sign out' }).or(page.locator('.trouble')).first().waitFor();
  }

  async function signIn(page: Page, login: string): Promise<void> {
    await page.getByRole('button', { name: 'Sign in with Example' }).click();
    await atProvider(page, login);
  }

  test('somebody in a group that has a role comes in with that role, and nothing stays in the address', async () => {
    const page = await fresh();
    await signIn(page, 'grace');
    await visit(page, '#/access/you', 'text=by the provider of identities');
    expect(page.url()).toBe(`${stage.origin}/#/access/you`);
    const shown = await page.locator('.pairs').first().innerText();
    expect(shown).toContain('grace <b>');
    expect(shown).toContain('operator');
    expect(shown).not.toContain('tenant-admin');
    await accessible(page, 'who came by the provider');
  });

  test('somebody in no group that has a role stays out, and is told whom to ask', async () => {
    const page = await fresh();
    await signIn(page, 'mallory');
    await page.getByText('none of your groups at Example has a role here').waitFor();
    await accessible(page, 'refused by groups');
  });

  test('a group that was left takes its role, at the next sign-in and on every screen', async () => {
    const [before, after] = [await fresh(), await fresh()];
    await signIn(before, 'lin');
    await visit(before, '#/access/you', 'text=by the provider of identities');
    provider.groups['lin'] = [];
    await signIn(after, 'lin');
    await after.getByText('none of your groups').waitFor();
    await before.reload();
    await before.getByText('You are not signed in').waitFor();
  });

  test('a dangerous act asks the provider anew, and the page is there again', async () => {
    const page = await fresh();
    await signIn(page, 'ada');
    await visit(page, '#/access/you', 'text=by the provider of identities');
    // She was asked by the provider just now, so that nothing more is asked.
    await visit(page, '#/access/tokens', 'td');
    await page.evaluate(() => {
      const real = fetch;
      globalThis.fetch = async (...asked) => {
        const request = asked[0] as Request;
        if (request.method === 'POST' && request.url.endsWith('/tokens')) return Response.json({ status: 403, code: 'fresh-proof-needed', detail: 'again' }, { status: 403 });
        return real(...asked);
      };
    });
    await page.getByRole('button', { name: 'Make a token…' }).click();
    const dialog = page.getByRole('dialog').first();
    await dialog.getByLabel('What it is for').fill('nightly');
    await dialog.getByRole('button', { name: 'Make it' }).click();
    await page.getByRole('heading', { name: 'Is it you?' }).waitFor();
    await accessible(page, 'the question, for the provider');
    await page.getByRole('button', { name: 'Sign in again' }).click();
    // prompt=login: the provider's session alone is no proof.
    await atProvider(page, 'ada');
    await page.getByRole('button', { name: 'Make a token…' }).click();
    await dialog.getByLabel('What it is for').fill('nightly');
    await dialog.getByRole('button', { name: 'Make it' }).click();
    await page.getByText('fwt_').waitFor();
  });

  test('a passkey of somebody who comes by the provider opens no session without it', async () => {
    const page = await fresh();
    await authenticator(page);
    await signIn(page, 'grace');
    await visit(page, '#/access/you', 'text=You have no passkey');
    await page.getByRole('button', { name: 'Add a passkey…' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Make it' }).click();
    await page.getByText('Your passkey is added').waitFor();
    await page.getByRole('button', { name: 'sign out' }).click();
    await page.getByRole('button', { name: 'Sign in with a passkey' }).click();
    await page.getByText('sign in there first').waitFor();
  });

  test('another at the provider does not take over who is signed in here', async () => {
    // One that tells of sign-outs signs the first of them out before.
    provider.silent = true;
    const page = await fresh();
    await signIn(page, 'ada');
    await visit(page, '#/access/tokens', 'td');
    await page.evaluate(async () => {
      const answer = await fetch('/api/v1/access/sign-in/provider', { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{"again":true}' });
      location.assign((await answer.json()).location);
    });
    await atProvider(page, 'grace');
    await page.getByText('somebody else than who is signed in here').waitFor();
  });

  test('whoever signs out here can do so at the provider too, and then nobody comes in as them by a click', async () => {
    const page = await fresh();
    await signIn(page, 'grace');
    await visit(page, '#/access/you', 'text=by the provider of identities');
    await page.getByRole('button', { name: 'sign out', exact: true }).click();
    await page.getByText('At the provider you are not yet').waitFor();
    await accessible(page, 'signed out here and not there');
    await page.getByRole('button', { name: 'Sign out at Example too' }).click();
    await page.getByRole('button', { name: 'Yes, sign me out' }).click();
    await page.waitForURL(`${stage.origin}/**`);
    await page.getByText('You are not signed in').waitFor();
    expect(page.url()).not.toContain('?');
    await page.getByRole('button', { name: 'Sign in with Example' }).click();
    await page.locator('input[name=login]').waitFor();
  });

  /** Whether a browser is signed in here. */
  async function isIn(page: Page): Promise<boolean> {
    return (await page.request.get(`${stage.origin}/api/v1/access/whoami`)).status() === 200;
  }
  /** Posts it as the provider does. */
  async function say(word: string): Promise<number> {
    const there = `${stage.origin}/api/v1/access/sign-in/provider/sign-out`;
    const headers = { 'content-type': 'application/x-www-form-urlencoded' };
    return (await tell(there, { method: 'POST', headers, body: new URLSearchParams({ logout_token: word }) })).status;
  }

  test('whoever signs out at the provider is out here, in that browser and in no other', async () => {
    const [one, other, ada] = [await fresh(), await fresh(), await fresh()];
    await signIn(one, 'grace');
    await signIn(other, 'grace');
    await signIn(ada, 'ada');
    expect([await isIn(one), await isIn(other), await isIn(ada)]).toEqual([true, true, true]);
    // In a tab of its own: the console follows what happens by itself.
    const elsewhere = await one.context().newPage();
    await elsewhere.goto(`${provider.issuer}/session/end`);
    await elsewhere.getByRole('button', { name: 'Yes, sign me out' }).click();
    await one.getByText('You are not signed in').waitFor();
    expect([await isIn(one), await isIn(other), await isIn(ada)]).toEqual([false, true, true]);
  });

  test('a sign-out ends what a passkey prolonged, is heard once, and is believed of the provider alone', async () => {
    const page = await fresh();
    await authenticator(page);
    await signIn(page, 'ada');
    await visit(page, '#/access/you', 'text=You have no passkey');
    await page.getByRole('button', { name: 'Add a passkey…' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Make it' }).click();
    await page.getByText('Your passkey is added').waitFor();
    await visit(page, '#/access/tokens', 'text=Make a token…');
    await page.getByRole('button', { name: 'Make a token…' }).click();
    const dialog = page.getByRole('dialog').first();
    await dialog.getByLabel('What it is for').fill('weekly');
    await dialog.getByRole('button', { name: 'Make it' }).click();
    await page.getByRole('button', { name: 'Use your passkey' }).click();
    await page.getByText('fwt_').waitFor();
    const who = await (await page.request.get(`${stage.origin}/api/v1/access/whoami`)).json();
    expect(who.signed_in_by).toBe('passkey');

    const now = Math.floor(Date.now() / 1000);
    const ada = { sub: 'ada' };
    const id = { ...ada, nonce: 'x', events: undefined };
    const FALSE: [name: string, word: string][] = [
      ['of another issuer', provider.word({ ...ada, iss: 'https://evil.example' })],
      ['to another client', provider.word({ ...ada, aud: 'another' })],
      ['with a nonce, as an ID token', provider.word({ ...ada, nonce: 'x' })],
      ['an ID token', provider.word(id, { typ: 'JWT' })],
      ['of no event', provider.word({ ...ada, events: {} })],
      ['of another event', provider.word({ ...ada, events: { 'https://schemas.openid.net/secevent/risc/event-type/account-disabled': {} } })],
      ['that ended', provider.word({ ...ada, exp: now - 120 })],
      ['that lay about', provider.word({ ...ada, iat: now - 600 })],
      ['of nobody', provider.word({})],
      ['without a name of its own', provider.word({ ...ada, jti: undefined })],
      ['an access token', provider.word(ada, { typ: 'at+jwt' })],
      ['without a signature', provider.word(ada, { alg: 'none' })],
      ['signed with the public key', provider.word(ada, { alg: 'HS256' })],
      ['by a key that is not named', provider.word(ada, { kid: 'mine' })],
      ['no token', 'x'],
    ];
    for (const [name, word] of FALSE) expect(await say(word), name).toBe(400);
    expect(await say(provider.word({ sub: 'grace' }))).toBe(200);
    expect(await say(provider.word({ ...ada, sid: 'of another browser' }))).toBe(200);
    expect(await isIn(page)).toBe(true);
    const word = provider.word(ada);
    expect(await say(word)).toBe(200);
    expect(await isIn(page)).toBe(false);
    // Whoever recorded it ends nothing that began since.
    const again = await fresh();
    await signIn(again, 'ada');
    expect(await say(word)).toBe(200);
    expect(await isIn(again)).toBe(true);
  });

  test('new keys of the provider are found, of either algorithm', async () => {
    provider.rotate('RS256');
    const page = await fresh();
    await signIn(page, 'grace');
    await visit(page, '#/access/you', 'text=by the provider of identities');
    provider.rotate('ES256');
    const other = await fresh();
    await signIn(other, 'grace');
    await visit(other, '#/access/you', 'text=by the provider of identities');
  });

  const ATTACKS: [name: string, bend: (token: Token) => void, told: string][] = [
    ['a token of another sign-in (nonce)', ({ claims }) => (claims['nonce'] = 'another'), 'answers another sign-in'],
    ['a token for another client (audience)', ({ claims }) => (claims['aud'] = 'another'), 'for another client'],
    ['a token of another issuer', ({ claims }) => (claims['iss'] = 'https://evil.example'), 'of another provider'],
    ['a token that has ended', ({ claims }) => (claims['exp'] = Math.floor(Date.now() / 1000) - 120), 'has ended'],
    ['a token without a signature (alg none)', ({ header }) => (header['alg'] = 'none'), 'an algorithm that is not taken'],
    ['a token signed with the public key (HS256)', ({ header }) => (header['alg'] = 'HS256'), 'an algorithm that is not taken'],
    ['a key under the name of another algorithm', ({ header }) => (header['alg'] = 'RS256'), 'an algorithm that is not taken'],
    ['a key that the provider does not name', ({ header }) => (header['kid'] = 'mine'), 'a key that the provider does not name'],
  ];
  test.each(ATTACKS)('%s signs nobody in', async (_, bend, told) => {
    provider.bend = bend;
    const page = await fresh();
    await signIn(page, 'grace');
    await page.getByText(told).waitFor();
    expect((await page.request.get(`${stage.origin}/api/v1/access/whoami`)).status()).toBe(401);
  });

  test('a code that another page asked for, another state, and a code twice sign nobody in', async () => {
    const page = await fresh();
    // Nobody began anything here: a link that an attacker made with a code of their own.
    await page.goto(`${stage.origin}/?code=theirs&state=theirs`);
    await page.getByText('this browser began no sign-in').waitFor();
    expect(page.url()).not.toContain('code=');
    await page.getByRole('button', { name: 'Sign in with Example' }).click();
    await page.locator('input[name=login]').waitFor();
    await page.goto(`${stage.origin}/?code=theirs&state=theirs`);
    await page.getByText('another page began').waitFor();
    await page.goto(`${stage.origin}/?error=access_denied&state=x`);
    await page.getByText('The provider let nobody in (access_denied)').waitFor();
    let address = '';
    page.on('request', (request) => {
      if (request.isNavigationRequest() && request.url().startsWith(`${stage.origin}/?code=`)) address = request.url();
    });
    await signIn(page, 'grace');
    await visit(page, '#/access/you', 'text=by the provider of identities');
    expect(address).toContain('state=');
    await page.getByRole('button', { name: 'sign out' }).click();
    await page.getByText('You are not signed in').waitFor();
    await page.goto('about:blank');
    await page.goto(address);
    await page.getByText('this browser began no sign-in').waitFor();
  });
});
