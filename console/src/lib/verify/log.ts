/** A published log, read by its files (C2SP tlog-tiles). Nothing here believes the server. */

import { type Bytes, equal, hex } from './bytes';
import { type Checkpoint, Failure, type LogKey, openCheckpoint } from './note';
import { leafHash, rootFromInclusion, rootOf, split } from './tree';

/** Reads one file of the log, `checkpoint` or `tile/…`. */
export type Fetch = (path: string) => Promise<Bytes>;

/** What was checked, in order, each with what a reader can compare. */
export interface Proof {
  index: number;
  checkpoint: Checkpoint;
  leaf: string;
  leafHash: Bytes;
  path: Bytes[];
  files: string[];
}

const TILE = 256;
const LEVELS_MAX = 8;

export class Log {
  readonly files: string[] = [];
  private readonly kept = new Map<string, Promise<Bytes>>();

  private constructor(
    private readonly fetch: Fetch,
    readonly checkpoint: Checkpoint,
  ) {}

  /** Opens the newest checkpoint with the log's key. */
  static async open(fetch: Fetch, key: LogKey): Promise<Log> {
    const note = new TextDecoder('utf-8', { fatal: true }).decode(await fetch('checkpoint'));
    const log = new Log(fetch, await openCheckpoint(note, key));
    log.files.push('checkpoint');
    return log;
  }

  /** Proves that entry `index` belongs to the tree whose root is signed. */
  async prove(index: number): Promise<Proof> {
    const { size, root } = this.checkpoint;
    if (!Number.isSafeInteger(index) || index < 0 || index >= size) {
      throw new Failure(`entry ${index}`, `the signed log has ${size} entries: it is not among them`);
    }
    const leaf = await this.entry(index);
    const hash = await leafHash(leaf);
    const path = await this.path(index, 0, size);
    if (!equal(await rootFromInclusion(index, size, hash, path), root)) {
      throw new Failure(`entry ${index}`, 'its bytes or its proof do not lead to the root that was signed');
    }
    const text = new TextDecoder('utf-8', { fatal: true }).decode(leaf);
    return { index, checkpoint: this.checkpoint, leaf: text, leafHash: hash, path, files: [...this.files] };
  }

  /** The root of the first `size` leaves, to compare with a checkpoint kept from an earlier day. */
  async rootAt(size: number): Promise<Bytes> {
    if (size > this.checkpoint.size) {
      throw new Failure('checkpoint', `rolled back: ${this.checkpoint.size} entries, you have seen ${size}`);
    }
    return size === 0 ? rootOf([]) : this.range(0, size);
  }

  private async path(index: number, from: number, to: number): Promise<Bytes[]> {
    if (to - from === 1) return [];
    const middle = from + split(to - from);
    return index < middle
      ? [...(await this.path(index, from, middle)), await this.range(middle, to)]
      : [...(await this.path(index, middle, to)), await this.range(from, middle)];
  }

  /** The root over the leaves `from` to `to`, as the tree of RFC 9162 divides them. */
  private async range(from: number, to: number): Promise<Bytes> {
    const width = to - from;
    const height = Math.log2(width);
    if (Number.isInteger(height)) return this.node(height, from / width);
    const middle = from + split(width);
    return rootOf([await this.range(from, middle), await this.range(middle, to)]);
  }

  /** The root of the whole subtree of 2^height leaves at this place. */
  private async node(height: number, place: number): Promise<Bytes> {
    const level = Math.floor(height / 8);
    const count = 2 ** (height % 8);
    const first = place * count;
    const tile = await this.tile(level, Math.floor(first / TILE));
    const at = first % TILE;
    return rootOf(Array.from({ length: count }, (_, i) => tile.slice((at + i) * 32, (at + i + 1) * 32)));
  }

  private async tile(level: number, number: number): Promise<Bytes> {
    const width = this.width(level, number);
    const path = tilePath(String(level), number, width);
    const tile = await this.read(path, tilePath(String(level), number, TILE));
    if (width < 1 || level >= LEVELS_MAX || tile.length < width * 32) {
      throw new Failure(path, `${tile.length} bytes instead of ${width * 32}`);
    }
    return tile;
  }

  private async entry(index: number): Promise<Bytes> {
    const number = Math.floor(index / TILE);
    const path = tilePath('entries', number, this.width(0, number));
    const bundle = await this.read(path, tilePath('entries', number, TILE));
    let at = 0;
    for (let skip = index % TILE; ; skip--) {
      const length = (bundle[at] ?? 0) * 256 + (bundle[at + 1] ?? 0);
      const end = at + 2 + length;
      if (at + 2 > bundle.length || end > bundle.length) {
        throw new Failure(path, 'it is cut, or an entry was dropped from it');
      }
      if (skip === 0) return bundle.slice(at + 2, end);
      at = end;
    }
  }

  private width(level: number, number: number): number {
    return Math.max(0, Math.min(TILE, Math.floor(this.checkpoint.size / TILE ** level) - number * TILE));
  }

  /** A partial file may be gone once the full one that replaced it is there. */
  private read(path: string, full: string): Promise<Bytes> {
    const known = this.kept.get(path);
    if (known) return known;
    const reading = this.fetch(path).catch(async (trouble: unknown) => {
      if (path === full) throw trouble;
      return this.fetch(full);
    });
    this.kept.set(path, reading);
    this.files.push(path);
    return reading;
  }
}

/** `x001/x234/067.p/12`. */
export function tilePath(kind: string, number: number, width: number): string {
  const groups = [String(number % 1000).padStart(3, '0')];
  for (let rest = Math.floor(number / 1000); rest > 0; rest = Math.floor(rest / 1000)) {
    groups.unshift(`x${String(rest % 1000).padStart(3, '0')}`);
  }
  return `tile/${kind}/${groups.join('/')}${width < TILE ? `.p/${width}` : ''}`;
}

/** What this browser remembers of a log between visits, so that a rewritten one is seen. */
export interface Kept {
  vkey: string;
  size: number;
  root: string;
}

/** Compares with what was kept. @returns what to keep now. */
export async function compareWithKept(log: Log, vkey: string, kept: Kept | undefined): Promise<Kept> {
  if (kept && kept.vkey !== vkey) {
    throw new Failure(
      'key',
      'the plane names another key than at your first visit; ask its operator by another way which is right',
    );
  }
  if (kept && hex(await log.rootAt(kept.size)) !== kept.root) {
    throw new Failure('checkpoint', `REWRITTEN: the first ${kept.size} entries are not those that you have seen`);
  }
  return { vkey, size: log.checkpoint.size, root: hex(log.checkpoint.root) };
}
