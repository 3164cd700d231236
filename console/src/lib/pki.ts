/** Certificates and CAs as a person reads them. */

import type { CertificateRow, IssuingCa, RevocableKind } from './shapes';

const DAY = 86_400_000;

/** Where a moment lies between two others, 0 to 1. */
export function part(from: string, moment: string | number, until: string): number {
  const [begin, at, end] = [Date.parse(from), typeof moment === 'number' ? moment : Date.parse(moment), Date.parse(until)];
  if (!(end > begin) || Number.isNaN(at)) return 0;
  return Math.min(1, Math.max(0, (at - begin) / (end - begin)));
}

/** `2036-11-26`. */
export function day(time: string): string {
  return /^\d{4}-\d\d-\d\d/.test(time) ? time.slice(0, 10) : time;
}

/** A certificate's name is long; its end tells it apart. */
export function short(certificate: string): string {
  const serial = certificate.split(':').at(-1) ?? certificate;
  return serial.length > 12 ? `…${serial.slice(-12)}` : serial;
}

/** What the algorithms of a key are good for. NIST SP 800-131A retires RSA below 3072 bits with 2030. */
export function keyStands(kind: string | null | undefined): 'good' | 'old' | 'unknown' {
  if (!kind) return 'unknown';
  const bits = /^RSA (\d+)$/.exec(kind)?.[1];
  if (bits) return Number(bits) < 3072 ? 'old' : 'good';
  return ['P-256', 'P-384', 'Ed25519'].includes(kind) ? 'good' : 'unknown';
}

/** The command in a finding, which stands behind the last colon. */
export function advice(finding: string): { what: string; command: string | undefined } {
  const found = /^(.*): (fleetward [^:]+)$/s.exec(finding);
  return found ? { what: found[1] ?? finding, command: found[2] } : { what: finding, command: undefined };
}

/** Whether the signer counted as many signatures as are on record, for one CA. */
export function counted(ca: Pick<IssuingCa, 'signatures'>): { signed: number; recorded: number; unrecorded: number; equal: boolean } {
  const sum = (of: (one: IssuingCa['signatures'][number]) => number) => ca.signatures.reduce((all, one) => all + of(one), 0);
  const [signed, recorded, unrecorded] = [sum((one) => one.signed), sum((one) => one.recorded), sum((one) => one.unrecorded)];
  return { signed, recorded, unrecorded, equal: signed === recorded + unrecorded };
}

/** A width of the histogram's bars: the tallest fills it, none that counts vanishes. */
export function heights(weeks: number[], tall: number): number[] {
  const most = Math.max(1, ...weeks);
  return weeks.map((count) => (count === 0 ? 0 : Math.max(2, Math.round((count / most) * tall))));
}

/** The Sunday-free name of a week from now: `6 Dec`. */
export function weekOf(weeks: number, now = Date.now()): string {
  return new Date(now + weeks * 7 * DAY).toLocaleDateString('en-GB', { day: 'numeric', month: 'short', timeZone: 'UTC' });
}

/** `device/cam-1` as what it is and its name. */
export function revocable(what: string): { kind: RevocableKind; name: string } | undefined {
  const found = /^(device|service|certificate|product|ca)\/(.+)$/s.exec(what);
  return found ? { kind: found[1] as RevocableKind, name: found[2] ?? '' } : undefined;
}

/** What a certificate's row may be asked: only its own hold can be released with it. */
export function canRelease(row: Pick<CertificateRow, 'state' | 'barred' | 'certificate'>): boolean {
  return row.state === 'on-hold' && row.barred?.by === `certificate/${row.certificate}`;
}

/** Serial numbers out of a text area: one a line, or parted by commas. */
export function serials(text: string): string[] {
  return [...new Set(text.split(/[\n,;]+/).map((one) => one.trim()).filter(Boolean))];
}
