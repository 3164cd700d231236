/** Roles and acts of people as they are said to a person. */

import type { Proposal } from './shapes';

/** What each role is trusted with, in the order in which the plane names them. */
export const ROLES: Record<string, string> = {
  viewer: 'sees devices, policy, incidents and the log',
  operator: 'enrolls, revokes one by one, contains and restores',
  'release-manager': 'sees; its own acts come with releases',
  'release-approver': 'sees; its own acts come with releases',
  'pki-admin': 'CAs, and whose certificates are believed',
  'policy-admin': 'what reaches what',
  auditor: 'reads and exports all, and changes nothing',
  'tenant-admin': 'people and tokens, and nothing else',
};

/** What nobody but a person may be. */
export const NOT_OF_TOKENS = ['tenant-admin'];

/** `Add a person`, as far as its address tells; the rest is in what was sent. */
export function act({ action, method, target }: Pick<Proposal, 'action' | 'method' | 'target'>): string {
  const path = target.split('?')[0] ?? '';
  const parts = path.split('/').slice(4).map(decoded);
  const [thing = '', name = '', more = ''] = parts;
  switch (action) {
    case 'access.apply':
      return 'Put a fleet in force';
    case 'access.break-glass':
      return 'Break the glass: all roles for an hour';
    case 'access.people-change':
      if (thing === 'tokens') return 'Make a token for a program';
      if (more === 'link') return `Make a sign-in link for ${name}`;
      return method === 'PUT' ? `Change the roles of ${name}` : 'Add a person';
    case 'identity.revoke-many':
      return name === 'list' ? 'Revoke a list' : 'Revoke a whole product or CA';
    case 'identity.ca-change':
      return thing === 'authorities' ? `Roll the CA ${name} over` : `Change the roots: ${name}`;
    default:
      return `${method} ${path}`;
  }
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** JSON as it is read; anything else as it was sent. */
export function readable(body: string): string {
  try {
    return JSON.stringify(JSON.parse(body), null, 2);
  } catch {
    return body;
  }
}

/** Actions by their room: `identity` → `revoke`, `expect`. */
export function byRoom(actions: string[]): [room: string, actions: string[]][] {
  const rooms = new Map<string, string[]>();
  for (const action of actions) {
    const [room = '', what = ''] = action.split('.');
    rooms.set(room, [...(rooms.get(room) ?? []), what]);
  }
  return [...rooms];
}
