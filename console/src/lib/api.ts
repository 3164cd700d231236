/** The plane's API, one function a call, typed by its interface. The only file that knows paths. */

import createClient, { type Middleware } from 'openapi-fetch';
import { proof } from './proof.svelte';
import type { paths } from './schema';
import type { Approval, CommandAsked, CommandRow, Containment, FleetFile, NewImport, NewPasskey, NewPerson, NewToken, PasskeyAnswer, Problem, Proposal, ProviderAnswer, RevocableKind } from './shapes';

/** The plane refused, or did not answer. Says what happened and who must act. */
export class Refused extends Error {
  constructor(readonly problem: Problem) {
    super([problem.detail, ...(problem.errors ?? [])].join('\n'));
  }

  get isSignedOut(): boolean {
    return this.problem.status === 401;
  }
}

/** Nothing was done yet: another person must approve it. */
export class Waits extends Error {
  constructor(readonly proposal: Proposal) {
    super('Another person must approve this.');
  }
}

const refusing: Middleware = {
  async onResponse({ response }) {
    if (!response.ok) throw new Refused(await problem(response));
  },
  onError() {
    return new Refused({ status: 0, code: 'unreachable', detail: 'the plane does not answer; is it running?' });
  },
};

const plane = createClient<paths>({
  fetch: provingWhereAsked,
});
plane.use(refusing);

/** What is refused for want of a fresh proof is asked for again once there is one. */
async function provingWhereAsked(request: Request): Promise<Response> {
  const again = request.clone();
  const response = await fetch(request);
  if (response.status !== 403 || (await problem(response)).code !== 'fresh-proof-needed') return response;
  return (await proof.ask()) ? fetch(again) : response;
}

/** What was done; what waits for another person was not. */
async function done<T>(answer: Promise<{ data?: T; response: Response }>): Promise<Exclude<NonNullable<T>, Proposal>> {
  const said = await body(answer);
  if ((await answer).response.status === 202 && typeof said === 'object' && 'act_sha256' in said) throw new Waits(said as unknown as Proposal);
  return said as Exclude<NonNullable<T>, Proposal>;
}

/** Whatever was not refused has a body of the declared shape. */
async function body<T>(answer: Promise<{ data?: T }>): Promise<NonNullable<T>> {
  const { data } = await answer;
  if (data === undefined || data === null) {
    throw new Refused({ status: 0, code: 'empty', detail: 'the plane answered with nothing' });
  }
  return data;
}

async function problem(response: Response): Promise<Problem> {
  try {
    const said: unknown = await response.clone().json();
    if (said && typeof said === 'object' && 'detail' in said) return said as Problem;
  } catch {
    // Not a problem of the plane's: something between us answered.
  }
  return { status: response.status, code: 'unexpected', detail: `an answer of status ${response.status}, and no reason` };
}

/** Absent rather than empty: the plane refuses what it does not know. */
type Given<T> = { [K in keyof T]: Exclude<T[K], undefined> };
function given<T extends Record<string, unknown>>(query: T): Partial<Given<T>> {
  return Object.fromEntries(Object.entries(query).filter(([, value]) => value !== '' && value !== null && value !== undefined)) as Partial<Given<T>>;
}

const csv = (text: string) => ({ body: text, bodySerializer: () => text, headers: { 'content-type': 'text/csv' } });

export const signIn = (token: string) => plane.POST('/api/v1/access/sign-in', { body: { token } });
export const waysIn = () => body(plane.GET('/api/v1/access/sign-in'));
export const askPasskey = () => body(plane.POST('/api/v1/access/sign-in/challenges'));
export const signInByPasskey = (answer: PasskeyAnswer) => plane.POST('/api/v1/access/sign-in/passkey', { body: answer });
export const beginByProvider = (again: boolean) => body(plane.POST('/api/v1/access/sign-in/provider', { body: { again } }));
export const signInByProvider = (answer: ProviderAnswer) => plane.POST('/api/v1/access/sign-in/provider/code', { body: answer });
export const signInRefusals = () => body(plane.GET('/api/v1/access/sign-in/refusals'));
export const signOut = () => body(plane.POST('/api/v1/access/sign-out'));
export const overview = () => body(plane.GET('/api/v1/overview'));
export const fleet = () => body(plane.GET('/api/v1/access/fleet'));
export const fleetSources = (version: number) =>
  body(plane.GET('/api/v1/access/history/{version}', { params: { path: { version } } }));
export const plan = (files: FleetFile[]) => body(plane.POST('/api/v1/access/plan', { body: { files } }));
export const segments = () => body(plane.GET('/api/v1/access/segments'));

export const whoami = () => body(plane.GET('/api/v1/access/whoami'));
export const passkeys = () => body(plane.GET('/api/v1/access/passkeys'));
export const offerPasskey = () => body(plane.POST('/api/v1/access/passkeys/challenges'));
export const addPasskey = (made: NewPasskey) => body(plane.POST('/api/v1/access/passkeys', { body: made }));
export const removePasskey = (passkey: string) =>
  body(plane.DELETE('/api/v1/access/passkeys/{passkey}', { params: { path: { passkey } } }));
export const people = () => body(plane.GET('/api/v1/access/people'));
export const addPerson = (person: NewPerson) => done(plane.POST('/api/v1/access/people', { body: person }));
export const changePerson = (person: string, version: number, to: NewPerson) =>
  done(plane.PUT('/api/v1/access/people/{person}', { params: { path: { person }, header: { 'If-Match': `"${version}"` } }, body: to }));
export const disablePerson = (person: string) =>
  done(plane.DELETE('/api/v1/access/people/{person}', { params: { path: { person } } }));
export const linkPerson = (person: string) =>
  done(plane.POST('/api/v1/access/people/{person}/link', { params: { path: { person } } }));
export const removePasskeyOf = (person: string, passkey: string) =>
  done(plane.DELETE('/api/v1/access/people/{person}/passkeys/{passkey}', { params: { path: { person, passkey } } }));
export const apiTokens = () => body(plane.GET('/api/v1/access/tokens'));
export const makeApiToken = (token: NewToken) => done(plane.POST('/api/v1/access/tokens', { body: token }));
export const revokeApiToken = (token: string) =>
  done(plane.DELETE('/api/v1/access/tokens/{token}', { params: { path: { token } } }));
export const proposals = () => body(plane.GET('/api/v1/access/proposals'));
export const proposal = (proposal: string) =>
  body(plane.GET('/api/v1/access/proposals/{proposal}', { params: { path: { proposal } } }));
export const approveProposal = (proposal: string, act_sha256: string) =>
  body(plane.POST('/api/v1/access/proposals/{proposal}/approve', { params: { path: { proposal } }, body: { act_sha256 } }));
export const refuseProposal = (proposal: string) =>
  plane.POST('/api/v1/access/proposals/{proposal}/refuse', { params: { path: { proposal } } });
export const breakGlass = (reason: string) => done(plane.POST('/api/v1/access/break-glass', { body: { reason } }));

export const sessions = (query: { after?: string | undefined; limit: number }) =>
  body(plane.GET('/api/v1/gateway/sessions', { params: { query: given(query) } }));
export const gatewayRefusals = (query: { device?: string; limit: number }) =>
  body(plane.GET('/api/v1/gateway/refusals', { params: { query: given(query) } }));
export const speech = (query: { device?: string | undefined; service?: string | undefined }) =>
  body(plane.GET('/api/v1/gateway/speech', { params: { query: given(query) } }));

export const commands = (query: { after?: string | undefined; limit: number }) =>
  body(plane.GET('/api/v1/gateway/commands', { params: { query: given(query) } }));
export const command = (command: string, query: { state?: string; after?: string | undefined; limit: number }) =>
  body(plane.GET('/api/v1/gateway/commands/{command}', { params: { path: { command }, query: given(query) } }));
/** A rehearsal answers with whom it would reach, the act with the command. */
const commanding = (asked: CommandAsked, dry_run: boolean) =>
  body(plane.POST('/api/v1/gateway/commands', { params: { query: { dry_run } }, body: asked }));
export async function wouldSend(asked: CommandAsked) {
  const said = await commanding(asked, true);
  if ('reached' in said) return said;
  throw new Refused({ status: 0, code: 'unexpected', detail: 'the plane did not rehearse: look into the log' });
}
export async function send(asked: CommandAsked) {
  const said = await commanding(asked, false);
  if ('id' in said) return said;
  throw new Refused({ status: 0, code: 'unexpected', detail: 'the plane only rehearsed: nothing was sent' });
}
/** A held command is an act that waits for another person: approved as it is shown. */
export async function approveCommand(proposal: string): Promise<CommandRow> {
  const params = { path: { proposal } };
  const { act_sha256 } = await body(plane.GET('/api/v1/access/proposals/{proposal}', { params }));
  const done = await body(plane.POST('/api/v1/access/proposals/{proposal}/approve', { params, body: { act_sha256 } }));
  return done.answer as unknown as CommandRow;
}
export const cancelCommand = (command: string, reason: string) =>
  body(plane.POST('/api/v1/gateway/commands/{command}/cancel', { params: { path: { command } }, body: { reason } }));

export const twin = (device: string) => body(plane.GET('/api/v1/gateway/twins/{device}', { params: { path: { device } } }));
/** `patch`: a JSON merge patch as text. Refused if it is not at `version` any more. */
export const setTwin = (device: string, version: number, patch: string, dry_run: boolean) =>
  body(
    plane.PATCH('/api/v1/gateway/twins/{device}', {
      params: { path: { device }, query: { dry_run }, header: { 'If-Match': `"${version}"` } },
      body: patch as never,
      bodySerializer: () => patch,
      headers: { 'content-type': 'application/merge-patch+json' },
    }),
  );

export type DeviceQuery = NonNullable<paths['/api/v1/inventory/devices']['get']['parameters']['query']>;
export const devices = (query: DeviceQuery) =>
  body(plane.GET('/api/v1/inventory/devices', { params: { query: given(query) } }));
export const device = (device: string) =>
  body(plane.GET('/api/v1/inventory/devices/{device}', { params: { path: { device } } }));
export const importDevices = (text: string, dry_run: boolean) =>
  body(plane.POST('/api/v1/inventory/imports', { params: { query: { dry_run } }, ...csv(text) }));
export const EXPORT_PATH = '/api/v1/inventory/export' satisfies keyof paths;
export const findings = (text: string) => body(plane.POST('/api/v1/inventory/findings', csv(text)));

export type AlertQuery = NonNullable<paths['/api/v1/detection/alerts']['get']['parameters']['query']>;
export const alerts = (query: AlertQuery) =>
  body(plane.GET('/api/v1/detection/alerts', { params: { query: given(query) } }));
export const baselines = () => body(plane.GET('/api/v1/detection/baselines'));
export const acceptBaseline = (product: string) =>
  body(plane.POST('/api/v1/detection/baselines/{product}/accept', { params: { path: { product } } }));

export const incidents = () => body(plane.GET('/api/v1/response/incidents'));
export const incident = (incident: string) =>
  body(plane.GET('/api/v1/response/incidents/{incident}', { params: { path: { incident } } }));
export const closeIncident = (incident: string, reason: string) =>
  plane.POST('/api/v1/response/incidents/{incident}/close', { params: { path: { incident } }, body: { reason } });
export const contain = (device: string, containment: Containment, reason: string, dry_run = false) =>
  body(plane.POST('/api/v1/response/containments', { params: { query: { dry_run } }, body: { device, containment, reason } }));
export const restore = (device: string, dry_run: boolean) =>
  body(plane.DELETE('/api/v1/response/containments/{device}', { params: { path: { device }, query: { dry_run } } }));
/** Whom a group containment means: one of the two. */
export type GroupTarget = { group: string } | { product: string };
export const wouldContainGroup = (target: GroupTarget, containment: Containment) =>
  done(plane.POST('/api/v1/response/group-containments', { params: { query: { dry_run: true } }, body: { ...target, containment, reason: 'a rehearsal' } }));
/** To those who were shown, and to no others. */
export const containGroup = (target: GroupTarget, containment: Containment, reason: string, shown: string) =>
  done(plane.POST('/api/v1/response/group-containments', { body: { ...target, containment, reason, shown } }));
export const groupContainments = () =>
  body(plane.GET('/api/v1/response/group-containments', { params: { query: { standing: true } } }));
export const restoreGroup = (act: string, dry_run: boolean, reason?: string) =>
  body(plane.DELETE('/api/v1/response/group-containments/{act}', { params: { path: { act }, query: { dry_run } }, body: reason ? { reason } : {} }));
export const playbooks = () => body(plane.GET('/api/v1/response/playbooks'));

export const authorities = () => body(plane.GET('/api/v1/identity/authorities'));
export type CertificateQuery = NonNullable<paths['/api/v1/identity/certificates']['get']['parameters']['query']>;
export const certificates = (query: CertificateQuery) =>
  body(plane.GET('/api/v1/identity/certificates', { params: { query: given(query) } }));
export const certificateSummary = () => body(plane.GET('/api/v1/identity/certificates/summary'));
export const identityOf = (device: string) =>
  body(plane.GET('/api/v1/identity/devices/{device}', { params: { path: { device } } }));

export const pending = (after?: string, limit = 100) =>
  body(plane.GET('/api/v1/identity/pending', { params: { query: given({ after, limit }) } }));
export const approve = (id: string, approval: Approval) =>
  body(plane.POST('/api/v1/identity/pending/{id}/approve', { params: { path: { id } }, body: approval }));
export const refuse = (id: string, reason: string) =>
  body(plane.POST('/api/v1/identity/pending/{id}/refuse', { params: { path: { id } }, body: { reason } }));

/** What one act names: exactly one of the five kinds. */
const named = (kind: RevocableKind, name: string) => ({ [kind]: name });
/** A rehearsal answers with what it would do, the act with its receipt. */
const revoking = (kind: RevocableKind, name: string, reason: string, dry_run: boolean) =>
  done(plane.POST('/api/v1/identity/revocations', { body: { ...named(kind, name), reason, dry_run } }));
export async function wouldRevoke(kind: RevocableKind, name: string) {
  const said = await revoking(kind, name, 'unspecified', true);
  if ('sessions' in said) return said;
  throw new Refused({ status: 0, code: 'unexpected', detail: 'the plane did not rehearse: look into the log' });
}
export async function revoke(kind: RevocableKind, name: string, reason: string) {
  const said = await revoking(kind, name, reason, false);
  if ('proof' in said) return said;
  throw new Refused({ status: 0, code: 'unexpected', detail: 'the plane only rehearsed: nothing was revoked' });
}
export const release = (kind: RevocableKind, name: string, reason: string) =>
  body(plane.POST('/api/v1/identity/releases', { body: { ...named(kind, name), reason } }));
export type RevocationQuery = NonNullable<paths['/api/v1/identity/revocations']['get']['parameters']['query']>;
export const revocations = (query: RevocationQuery) =>
  body(plane.GET('/api/v1/identity/revocations', { params: { query: given(query) } }));

export const manufacturers = () => body(plane.GET('/api/v1/identity/manufacturers'));
export const imports = () => body(plane.GET('/api/v1/identity/imports'));
export const importFleet = (fleet: NewImport) => body(plane.POST('/api/v1/identity/imports', { body: fleet }));
export const importFleetDevices = (fleet: string, text: string, shared: boolean, dry_run: boolean) =>
  body(plane.POST('/api/v1/identity/imports/{fleet}/devices', { params: { path: { fleet }, query: { shared, dry_run } }, ...csv(text) }));
export const waitingOf = (fleet: string) =>
  body(plane.GET('/api/v1/identity/imports/{fleet}/waiting', { params: { path: { fleet } } }));
export const retireFleet = (fleet: string, leave_behind: boolean) =>
  body(plane.POST('/api/v1/identity/imports/{fleet}/retirement', { params: { path: { fleet } }, body: { leave_behind } }));
/** The plane takes no longer list. */
export const FLEET_BYTES_MAX = 64 * 1024 * 1024;

export const tokenCounts = () => body(plane.GET('/api/v1/identity/claim-tokens'));
export const tokens = (manufacturer: string, after?: string, limit = 100) =>
  body(plane.GET('/api/v1/identity/claim-tokens/{manufacturer}', { params: { path: { manufacturer }, query: given({ after, limit }) } }));
export const makeTokens = (manufacturer: string, serials: string[], days: number) =>
  body(plane.POST('/api/v1/identity/claim-tokens', { body: { manufacturer, serials, days } }));
export const withdrawTokens = (manufacturer: string, serial?: string) =>
  body(plane.DELETE('/api/v1/identity/claim-tokens', { params: { query: { manufacturer, ...(serial ? { serial } : {}) } } }));

export const served = () => body(plane.GET('/api/v1/identity/served'));
export const reloadServed = () => body(plane.POST('/api/v1/identity/served/reload'));
export const chips = (after?: string, limit = 100) =>
  body(plane.GET('/api/v1/identity/tpm/endorsement-keys', { params: { query: given({ after, limit }) } }));
export const tpmVendors = () => body(plane.GET('/api/v1/identity/tpm/vendors'));

export const entries = (from: number, limit: number) =>
  body(plane.GET('/api/v1/audit/entries', { params: { query: { from, limit } } }));
export const logKey = () => body(plane.GET('/api/v1/audit/key'));
export const BUNDLE_PATH = '/api/v1/audit/bundle' satisfies keyof paths;
export const EVENTS_PATH = '/api/v1/events' satisfies keyof paths;

/** One file of the published log. Its path has slashes of its own. */
export async function logFile(path: string): Promise<Uint8Array<ArrayBuffer>> {
  const response = await fetch(`/log/${path}`);
  if (!response.ok) throw new Refused(await problem(response));
  return new Uint8Array(await response.arrayBuffer());
}
