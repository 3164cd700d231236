/** The map of segments as a matrix: which rows and columns are worth showing, and what a cell says. */

import type { SegmentCell, SegmentMap, SegmentRight, SegmentRow } from './shapes';
import { count } from './words';

/** What of the map is looked at. */
export type Only = 'all' | 'unused' | 'others';

export interface Column {
  id: string;
  /** Topics of a channel, or where a destination is. */
  what: string;
  kind: 'from-device' | 'to-device' | 'destination';
}

export interface Cell {
  publish?: SegmentRight | undefined;
  receive?: SegmentRight | undefined;
  /** A destination: there or not. */
  reaches?: true;
}

export interface Row {
  name: string;
  /** The rest of who is in it. */
  also: string[];
  members: string;
  cells: (Cell | undefined)[];
}

export interface Matrix {
  columns: Column[];
  rows: Row[];
  /** Rows that fit the question and are not among `rows`. */
  more: number;
}

export interface Totals {
  devices: number;
  services: number;
  segments: number;
  rights: number;
  unused: number;
  others: number;
}

function rights(cell: SegmentCell): SegmentRight[] {
  return [cell.publish, cell.receive].filter((right): right is SegmentRight => Boolean(right));
}

/** Nothing is called unused before anything was counted. */
export function totals(map: SegmentMap): Totals {
  const all = map.segments.flatMap((segment) => segment.channels.flatMap(rights));
  const members = (of: string) => map.segments.filter((one) => one.of === of).reduce((sum, one) => sum + one.members, 0);
  return {
    devices: members('devices'),
    services: members('services'),
    segments: map.segments.length,
    rights: all.length,
    unused: map.days > 0 ? all.filter((right) => right.messages === 0).length : 0,
    others: map.segments.filter((one) => one.of === 'devices' && one.channels.some((cell) => rights(cell).some((right) => right.others))).length,
  };
}

export function columns(map: SegmentMap): Column[] {
  const channels = map.channels.map((one) => ({ id: one.id, what: one.topics, kind: one.direction as Column['kind'] }));
  return [...channels, ...map.destinations.map((one) => ({ id: one.id, what: one.place, kind: 'destination' as const }))];
}

/** The matrix of what fits; columns in which nobody shown has anything are left out. */
export function matrix(map: SegmentMap, text: string, only: Only, rowsMax: number): Matrix {
  const all = columns(map);
  const sought = text.trim().toLowerCase();
  const has = (word: string | null | undefined) => word?.toLowerCase().includes(sought) ?? false;
  const worth = (right: SegmentRight | null | undefined, of: string) =>
    right && (only === 'all' || (only === 'unused' ? map.days > 0 && right.messages === 0 : right.others && of === 'devices')) ? right : undefined;
  const fits = all.map((column) => has(column.id) || has(column.what));
  const rows: Row[] = [];
  let more = 0;
  for (const segment of map.segments) {
    const named = segment.kinds.some(has);
    const cells: (Cell | undefined)[] = all.map(() => undefined);
    for (const cell of segment.channels) {
      const publish = worth(cell.publish, segment.of);
      const receive = worth(cell.receive, segment.of);
      const meant = !sought || named || fits[cell.channel] || has(publish?.policy) || has(receive?.policy);
      if (meant && (publish ?? receive)) cells[cell.channel] = { publish, receive };
    }
    if (only === 'all') {
      for (const place of segment.destinations) {
        const at = map.channels.length + place;
        if (!sought || named || fits[at]) cells[at] = { reaches: true };
      }
    }
    const isShown = cells.some(Boolean) || (only === 'all' && (!sought || named));
    if (!isShown) continue;
    if (rows.length < rowsMax) rows.push(row(segment, cells));
    else more += 1;
  }
  const used = all.map((_, at) => rows.some((one) => one.cells[at]));
  return {
    columns: all.filter((_, at) => used[at]),
    rows: rows.map((one) => ({ ...one, cells: one.cells.filter((_, at) => used[at]) })),
    more,
  };
}

function row(segment: SegmentRow, cells: (Cell | undefined)[]): Row {
  const [name = 'nobody', ...also] = segment.kinds;
  const beyond = segment.kinds_left_out;
  return {
    name,
    also: beyond > 0 ? [...also, `${beyond} more`] : also,
    members: count(segment.members, segment.of === 'devices' ? 'device' : 'service'),
    cells,
  };
}

/** What a right says, as a sentence without its verb. */
export function said(right: SegmentRight, days: number): string {
  const whose = right.others ? 'topics of others' : 'its own topics, or nobody’s';
  const by = right.policy ? ` by policy ${right.policy}` : '';
  if (days === 0) return `${whose}${by}`;
  const since = `in ${count(days, 'day')}`;
  if (right.messages === 0) return `${whose}${by}; not used ${since}`;
  const devices = right.devices > 0 ? ` of about ${count(right.devices, 'device')}` : '';
  return `${whose}${by}; ${count(right.messages, 'message')}${devices} ${since}`;
}

/** A cell in words. */
export function spokenCell(cell: Cell | undefined, days: number): string {
  if (!cell) return 'nothing';
  const parts = [
    cell.publish && `publishes to ${said(cell.publish, days)}`,
    cell.receive && `receives ${said(cell.receive, days)}`,
    cell.reaches && 'may connect',
  ];
  return parts.filter(Boolean).join('. ');
}

/** A cell by its place among rows and columns. */
export interface Place {
  row: number;
  column: number;
}

function filled(rows: Row[], row: number): number[] {
  return (rows[row]?.cells ?? []).flatMap((cell, at) => (cell ? [at] : []));
}

/** The first cell in which something is granted, from a row on in a direction. */
function next(rows: Row[], from: number, by: 1 | -1, column: number): Place | undefined {
  for (let row = from; row >= 0 && row < rows.length; row += by) {
    const found = filled(rows, row).sort((one, other) => Math.abs(one - column) - Math.abs(other - column))[0];
    if (found !== undefined) return { row, column: found };
  }
  return undefined;
}

/** Where a key leads: only to cells in which something is granted, the nearest where there is a choice. */
export function step(rows: Row[], at: Place, key: string, far: boolean): Place | undefined {
  const here = filled(rows, at.row);
  const within = (column: number | undefined) => (column === undefined ? undefined : { row: at.row, column });
  switch (key) {
    case 'ArrowRight':
      return within(here.find((column) => column > at.column));
    case 'ArrowLeft':
      return within(here.findLast((column) => column < at.column));
    case 'ArrowDown':
      return next(rows, at.row + 1, 1, at.column);
    case 'ArrowUp':
      return next(rows, at.row - 1, -1, at.column);
    case 'Home':
      return far ? next(rows, 0, 1, 0) : within(here[0]);
    case 'End':
      return far ? next(rows, rows.length - 1, -1, Number.MAX_SAFE_INTEGER) : within(here.at(-1));
    default:
      return undefined;
  }
}

/** Where one begins. */
export function beginning(rows: Row[]): Place {
  return next(rows, 0, 1, 0) ?? { row: 0, column: 0 };
}
