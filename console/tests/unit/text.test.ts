import { expect, test } from 'vitest';
import { rows, tally } from '../../src/lib/picture';
import { runs, visible } from '../../src/lib/visible';
import { ago, bytes, count, micros, moment } from '../../src/lib/words';
import { HOSTILE } from '../fixture/story';

test('nothing in a text hides, turns or imitates', () => {
  for (const text of HOSTILE) {
    const shown = visible(text);
    // eslint-disable-next-line no-control-regex
    expect(shown).not.toMatch(/[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\u00ad\ufeff]/);
  }
  expect(visible('gnp.\u202Efxe.exe')).toBe('gnp.⟨U+202E⟩fxe.exe');
  expect(runs('a\u0000b').map((run) => run.hidden)).toEqual([false, true, false]);
  expect(visible('tag\u{e0041}')).toBe('tag⟨U+E0041⟩');
});

test('plain text of any script stays as it is', () => {
  for (const text of ['Büro 3', 'カメラ', 'камера', 'كاميرا', 'कैमरा', 'e\u0301', 'a b']) expect(visible(text)).toBe(text);
});

test('a long text and a tower of marks are cut', () => {
  expect(visible('x'.repeat(10_000)).length).toBeLessThan(600);
  expect([...visible(`z${'\u0301'.repeat(500)}`)].length).toBeLessThan(8);
});

test('moments and amounts are said plainly', () => {
  const now = Date.parse('2026-11-22T19:30:00Z');
  expect(moment('2026-11-22T19:04:07.123Z', now)).toBe('19:04:07');
  expect(moment('2026-11-20T06:12:00Z', now)).toBe('2026-11-20 06:12');
  expect(moment('soon', now)).toBe('soon');
  expect(ago('2026-11-22T19:26:00Z', now)).toBe('4 min ago');
  expect(ago('2026-12-20T00:00:00Z', now)).toBe('in 27 days');
  expect(bytes(48_112_331)).toBe('48.1 MB');
  expect(bytes(999)).toBe('999 B');
  expect(micros(840)).toBe('840 µs');
  expect(micros(3120)).toBe('3.1 ms');
  expect(count(1, 'device')).toBe('1 device');
});

test('the picture shows what is left first and never more than fits', () => {
  const before = { channels: Array.from({ length: 40 }, (_, i) => `channel-${i}`), destinations: ['video'], devices_reachable: 3 };
  const after = { channels: ['report'], destinations: [], devices_reachable: 0 };
  const found = rows(before, after, ['203.0.113.66:4444']);
  expect(found[0]).toMatchObject({ name: 'report', fate: 'kept', first: true });
  expect(found.length).toBeLessThan(12);
  expect(found.some((row) => row.name === '36 more' && row.fate === 'cut')).toBe(true);
  expect(found.at(-1)).toMatchObject({ fate: 'tried', name: '203.0.113.66:4444' });
  expect(tally(before, after).map(({ before: had, after: has }) => [had, has])).toEqual([[40, 1], [1, 0], [3, 0]]);
});
