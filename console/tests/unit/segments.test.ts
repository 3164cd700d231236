import { expect, test } from 'vitest';
import { large, segments } from '../fixture/access.ts';
import { beginning, matrix, said, spokenCell, step, totals } from '../../src/lib/segments';

test('all that is granted is shown, and columns in which nobody has anything are not', () => {
  const map = segments(false);
  const all = matrix(map, '', 'all', 200);
  expect(all.rows).toHaveLength(map.segments.length);
  expect(all.columns).toHaveLength(map.channels.length + map.destinations.length);
  const locks = matrix(map, 'lock', 'all', 200);
  expect(locks.columns.map((one) => one.id)).toEqual(['lock-command', 'lock-state', 'lock-telemetry', 'time']);
  for (const one of locks.rows) expect(one.cells).toHaveLength(locks.columns.length);
});

test('what was never used is found, and nothing is called unused before anything was counted', () => {
  const map = segments(false);
  const unused = matrix(map, '', 'unused', 200);
  expect(unused.rows.map((row) => row.name)).toEqual(['product thermostat']);
  expect(unused.columns.map((one) => one.id)).toEqual(['thermostat-command']);
  expect(totals(map).unused).toBe(1);
  const early = { ...map, days: 0 };
  expect(totals(early).unused).toBe(0);
  expect(matrix(early, '', 'unused', 200).rows).toEqual([]);
});

test('devices that reach others are found, services that do so are their work', () => {
  const others = matrix(segments(false), '', 'others', 200);
  expect(others.rows.map((row) => row.name)).toEqual(['product lock, group hub']);
  expect(totals(segments(false)).others).toBe(1);
});

test('a policy is found by its name', () => {
  const found = matrix(segments(false), 'commander-sends', 'all', 200);
  expect(found.rows.map((row) => row.name)).toEqual(['service commander']);
  expect(found.columns.every((one) => one.kind === 'to-device')).toBe(true);
});

test('two hundred groups are two hundred rows of five cells each, or what one looks for', () => {
  const all = matrix(large(), '', 'all', 200);
  expect([all.rows.length, all.columns.length, all.more]).toEqual([200, 100, 0]);
  expect(all.rows.flatMap((row) => row.cells).filter(Boolean)).toHaveLength(1000);
  const one = matrix(large(), 'site-142', 'all', 200);
  expect([one.rows.length, one.columns.length]).toEqual([1, 5]);
  expect(matrix(large(), '', 'all', 50).more).toBe(150);
});

test('a cell is a sentence', () => {
  const right = { policy: 'x', others: false, messages: 1, devices: 1 };
  expect(said(right, 30)).toBe('its own topics, or nobody’s by policy x; 1 message of about 1 device in 30 days');
  expect(said({ ...right, messages: 0 }, 1)).toBe('its own topics, or nobody’s by policy x; not used in 1 day');
  expect(said({ ...right, others: true, policy: null }, 0)).toBe('topics of others');
  expect(spokenCell(undefined, 1)).toBe('nothing');
  expect(spokenCell({ reaches: true }, 1)).toBe('may connect');
});

test('keys lead from grant to grant, and nowhere else', () => {
  const { rows } = matrix(large(), '', 'all', 200);
  expect(beginning(rows)).toEqual({ row: 0, column: 0 });
  expect(step(rows, { row: 0, column: 0 }, 'ArrowRight', false)).toEqual({ row: 0, column: 1 });
  expect(step(rows, { row: 0, column: 4 }, 'ArrowRight', false)).toBeUndefined();
  expect(step(rows, { row: 0, column: 4 }, 'ArrowDown', false)).toEqual({ row: 1, column: 5 });
  expect(step(rows, { row: 1, column: 5 }, 'ArrowUp', false)).toEqual({ row: 0, column: 4 });
  expect(step(rows, { row: 0, column: 0 }, 'ArrowUp', false)).toBeUndefined();
  expect(step(rows, { row: 0, column: 0 }, 'End', true)).toEqual({ row: 199, column: 99 });
  expect(step(rows, { row: 3, column: 17 }, 'Home', false)).toEqual({ row: 3, column: 15 });
  expect(step([], { row: 0, column: 0 }, 'ArrowDown', false)).toBeUndefined();
  expect(beginning([])).toEqual({ row: 0, column: 0 });
});
