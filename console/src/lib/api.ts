/** The plane's API, one function a call, typed by its interface. The only file that knows paths. */

import createClient, { type Middleware } from 'openapi-fetch';
import type { paths } from './schema';
import type { Containment, Problem } from './shapes';

/** The plane refused, or did not answer. Says what happened and who must act. */
export class Refused extends Error {
  constructor(readonly problem: Problem) {
    super([problem.detail, ...(problem.errors ?? [])].join('\n'));
  }

  get isSignedOut(): boolean {
    return this.problem.status === 401;
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
  // Asked for at each call: the tests of a page may replace it.
  fetch: (request) => fetch(request),
});
plane.use(refusing);

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
function given<T extends Record<string, unknown>>(query: T): T {
  return Object.fromEntries(Object.entries(query).filter(([, value]) => value !== '' && value !== null && value !== undefined)) as T;
}

const csv = (text: string) => ({ body: text, bodySerializer: (it: string) => it, headers: { 'content-type': 'text/csv' } });

export const signIn = (token: string) => plane.POST('/api/v1/access/sign-in', { body: { token } });
export const signOut = () => plane.POST('/api/v1/access/sign-out');
export const overview = () => body(plane.GET('/api/v1/overview'));
export const fleet = () => body(plane.GET('/api/v1/access/fleet'));

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
export const playbooks = () => body(plane.GET('/api/v1/response/playbooks'));

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
