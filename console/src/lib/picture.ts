/** What a device could reach and still can, as rows of a picture. */

import type { ReachSet } from './shapes';

export type Fate =
  /** Reachable, and so it stays. */
  | 'kept'
  /** Was reachable; is no more. */
  | 'cut'
  /** Tried although never granted. */
  | 'tried';

export interface Row {
  group: string;
  name: string;
  fate: Fate;
  /** First of its group. */
  first: boolean;
  /** Stands for many devices or for rows that do not fit. */
  many?: number;
}

const ROWS_A_GROUP_MAX = 6;

/** Rows from top to bottom: channels, destinations, other devices, what it tried. */
export function rows(before: ReachSet, after: ReachSet, tried: string[]): Row[] {
  const devices: Row[] =
    before.devices_reachable > 0
      ? [
          {
            group: 'other devices',
            name: before.devices_reachable === 1 ? '1 device' : `${before.devices_reachable} devices`,
            fate: after.devices_reachable < before.devices_reachable ? 'cut' : 'kept',
            first: true,
            many: before.devices_reachable,
          },
        ]
      : [];
  return [
    ...group('channels', before.channels, after.channels),
    ...group('destinations', before.destinations, after.destinations),
    ...devices,
    ...group('not granted, tried', tried, [], 'tried'),
  ];
}

function group(title: string, before: string[], after: string[], gone: Fate = 'cut'): Row[] {
  const still = new Set(after);
  // What is left is the first thing to see.
  const names = [...new Set([...after, ...before])];
  const found = names.map((name): Row => ({ group: title, name, fate: still.has(name) ? 'kept' : gone, first: false }));
  const shown = found.length > ROWS_A_GROUP_MAX ? found.slice(0, ROWS_A_GROUP_MAX - 1) : found;
  const rest = found.slice(shown.length);
  if (rest.length > 0) {
    const fate = rest.every((row) => row.fate === 'kept') ? 'kept' : gone;
    shown.push({ group: title, name: `${rest.length} more`, fate, first: false, many: rest.length });
  }
  const [first] = shown;
  if (first) first.first = true;
  return shown;
}

/** `5 → 1`, for each kind of thing it can reach. */
export function tally(before: ReachSet, after: ReachSet): { what: string; before: number; after: number }[] {
  return [
    { what: 'channels', before: before.channels.length, after: after.channels.length },
    { what: 'destinations', before: before.destinations.length, after: after.destinations.length },
    { what: 'other devices', before: before.devices_reachable, after: after.devices_reachable },
  ];
}
