/** Signed notes, verifier keys and checkpoints (C2SP signed-note, tlog-checkpoint). */

import { type Bytes, equal, fromBase64, hex, sha256, utf8 } from './bytes';

const NOTE_LENGTH_MAX = 64 * 1024;
const LOG_KEY = 1;

/** Something does not hold. `place` uses the words of `fleetward audit verify`. */
export class Failure extends Error {
  constructor(
    readonly place: string,
    readonly what: string,
  ) {
    super(`${place}: ${what}`);
  }
}

export interface LogKey {
  name: string;
  id: Bytes;
  public: Bytes;
}

export interface Checkpoint {
  origin: string;
  size: number;
  root: Bytes;
  note: string;
}

/** `<name>+<id>+<base64 of type and public key>`, of a log. */
export async function parseKey(vkey: string): Promise<LogKey> {
  const [name, id, ...rest] = vkey.trim().split('+');
  const refuse = (why: string) => new Failure('key', `not a verifier key: ${why}`);
  if (!name || !id || rest.length === 0) throw refuse('not three parts');
  let key: Bytes;
  try {
    key = fromBase64(rest.join('+'));
  } catch {
    throw refuse('not base64');
  }
  if (key.length !== 33 || key[0] !== LOG_KEY) throw refuse("not a log's Ed25519 key");
  const wanted = (await sha256(utf8(`${name}\n`), key)).slice(0, 4);
  if (hex(wanted) !== id) throw refuse('its id does not fit');
  return { name, id: wanted, public: key.slice(1) };
}

/**
 * Opens a checkpoint signed by the log's key.
 *
 * Signatures by other keys are ignored; one by this key that does not fit refuses the whole.
 */
export async function openCheckpoint(note: string, key: LogKey): Promise<Checkpoint> {
  // eslint-disable-next-line no-control-regex
  if (note.length > NOTE_LENGTH_MAX || /[\x00-\x09\x0b-\x1f\x7f]/.test(note)) {
    throw new Failure('checkpoint', 'not a signed note: too long, or a control character in it');
  }
  const blank = note.lastIndexOf('\n\n');
  if (blank < 0 || !note.endsWith('\n')) {
    throw new Failure('checkpoint', 'not a signed note: no blank line, or a torn last line');
  }
  const text = note.slice(0, blank + 1);
  let signed = false;
  for (const line of note.slice(blank + 2, -1).split('\n')) {
    const { name, blob } = signatureLine(line);
    if (name !== key.name || !equal(blob.slice(0, 4), key.id)) continue;
    if (!(await fits(key, blob.slice(4), utf8(text)))) {
      throw new Failure(
        `signature of ${key.name} on the checkpoint`,
        'it does not fit: the origin, size, root or signature was altered',
      );
    }
    signed = true;
  }
  const lines = text.split('\n');
  const [origin, size, root] = lines;
  const rootBytes = safely(() => fromBase64(root ?? ''));
  if (lines.length !== 4 || !origin || !/^(0|[1-9][0-9]{0,14})$/.test(size ?? '') || rootBytes?.length !== 32) {
    throw new Failure('checkpoint', 'its text is not origin, size and root');
  }
  if (!signed || origin !== key.name) {
    throw new Failure(
      `signature of ${key.name} on the checkpoint`,
      "the checkpoint is not signed by the log's key",
    );
  }
  return { origin, size: Number(size), root: rootBytes, note };
}

function signatureLine(line: string): { name: string; blob: Bytes } {
  const [dash, name, base64, ...more] = line.split(' ');
  const blob = safely(() => fromBase64(base64 ?? ''));
  if (dash !== '\u2014' || !name || more.length > 0 || !blob || blob.length < 5) {
    throw new Failure('checkpoint', 'not a signed note: a malformed signature line');
  }
  return { name, blob };
}

async function fits(key: LogKey, signature: Bytes, text: Bytes): Promise<boolean> {
  let imported: CryptoKey;
  try {
    imported = await crypto.subtle.importKey('raw', key.public, 'Ed25519', false, ['verify']);
  } catch {
    throw new Failure(
      'browser',
      'this browser cannot check Ed25519 signatures; use a newer one, or the command below',
    );
  }
  return crypto.subtle.verify('Ed25519', imported, signature, text);
}

function safely<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}
