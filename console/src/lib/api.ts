/** The plane's API, one function a call. The only file that knows paths. */

import type * as shapes from './shapes';

/** The plane refused, or did not answer. Says what happened and who must act. */
export class Refused extends Error {
  constructor(readonly problem: shapes.Problem) {
    super(problem.detail);
  }

  get isSignedOut(): boolean {
    return this.problem.status === 401;
  }
}

type Query = Record<string, string | number | boolean | null | undefined>;

async function ask<T>(method: string, path: string, query: Query = {}, body?: BodyInit, type = 'application/json') {
  const asked = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== '');
  const search = new URLSearchParams(asked.map(([key, value]) => [key, String(value)])).toString();
  let response: Response;
  try {
    response = await fetch(search ? `${path}?${search}` : path, {
      method,
      ...(body === undefined ? {} : { body, headers: { 'content-type': type } }),
    });
  } catch {
    throw new Refused({ status: 0, code: 'unreachable', detail: 'the plane does not answer; is it running?' });
  }
  if (!response.ok) throw new Refused(await problem(response));
  if (response.status === 204) return undefined as T;
  return (await response.json()) as T;
}

async function problem(response: Response): Promise<shapes.Problem> {
  try {
    const body: unknown = await response.json();
    if (body && typeof body === 'object' && 'detail' in body) return body as shapes.Problem;
  } catch {
    // Not a problem of the plane's: something between us answered.
  }
  return { status: response.status, code: 'unexpected', detail: `an answer of status ${response.status}, and no reason` };
}

const json = (value: unknown) => JSON.stringify(value);
const part = encodeURIComponent;

export const signIn = (token: string) => ask<void>('POST', '/api/v1/access/sign-in', {}, json({ token }));
export const signOut = () => ask<void>('POST', '/api/v1/access/sign-out');

export const overview = () => ask<shapes.Overview>('GET', '/api/v1/overview');

export interface DeviceQuery {
  search?: string;
  product?: string;
  lifecycle?: string;
  containment?: string;
  limit?: number;
  after?: string | null;
}
export const devices = (query: DeviceQuery) =>
  ask<{ devices: shapes.DeviceRow[]; total: number; next?: string | null }>('GET', '/api/v1/inventory/devices', {
    ...query,
  });
export const device = (id: string) => ask<shapes.DevicePage>('GET', `/api/v1/inventory/devices/${part(id)}`);
export const importDevices = (csv: string, dryRun: boolean) =>
  ask<shapes.Import>('POST', '/api/v1/inventory/imports', { dry_run: dryRun }, csv, 'text/csv');
export const EXPORT_PATH = '/api/v1/inventory/export';
export const findings = (csv: string) =>
  ask<shapes.Findings>('POST', '/api/v1/inventory/findings', {}, csv, 'text/csv');

export const fleet = () => ask<{ products: string[]; version: number }>('GET', '/api/v1/access/fleet');

export const alerts = (query: { open?: boolean; device?: string; limit?: number; after?: number | null }) =>
  ask<{ alerts: shapes.Alert[]; next?: number | null }>('GET', '/api/v1/detection/alerts', query);
export const baselines = () => ask<{ baselines: shapes.Baseline[] }>('GET', '/api/v1/detection/baselines');
export const acceptBaseline = (product: string) =>
  ask<unknown>('POST', `/api/v1/detection/baselines/${part(product)}/accept`);

export const incidents = (state?: string) =>
  ask<{ incidents: shapes.IncidentRow[]; next?: string | null }>('GET', '/api/v1/response/incidents', { state });
export const incident = (id: string) => ask<shapes.Incident>('GET', `/api/v1/response/incidents/${part(id)}`);
export const closeIncident = (id: string, reason: string) =>
  ask<unknown>('POST', `/api/v1/response/incidents/${part(id)}/close`, {}, json({ reason }));
export const contain = (device: string, containment: shapes.Containment, reason: string, dryRun = false) =>
  ask<shapes.ContainmentDone>(
    'POST',
    '/api/v1/response/containments',
    { dry_run: dryRun },
    json({ device, containment, reason }),
  );
export const restore = (device: string, dryRun: boolean) =>
  ask<shapes.GivenBack>('DELETE', `/api/v1/response/containments/${part(device)}`, { dry_run: dryRun });
export const playbooks = () => ask<{ playbooks: shapes.Playbook[] }>('GET', '/api/v1/response/playbooks');

export const entries = (from: number, limit: number) =>
  ask<shapes.Entry[]>('GET', '/api/v1/audit/entries', { from, limit });
export const logKey = () => ask<{ origin: string; vkey: string }>('GET', '/api/v1/audit/key');

/** One file of the published log. */
export async function logFile(path: string): Promise<Uint8Array<ArrayBuffer>> {
  const response = await fetch(`/log/${path}`);
  if (!response.ok) throw new Refused(await problem(response));
  return new Uint8Array(await response.arrayBuffer());
}
