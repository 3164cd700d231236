import { describe, expect, test } from 'vitest';
import { fromBase64, hex, utf8, type Bytes } from '../../src/lib/verify/bytes';
import { compareWithKept, Log, tilePath } from '../../src/lib/verify/log';
import { Failure, openCheckpoint, parseKey } from '../../src/lib/verify/note';
import { leafHash, rootFromInclusion, rootOf } from '../../src/lib/verify/tree';
import { FixtureLog } from '../fixture/log';

function filled(entries: number, seed = 7): FixtureLog {
  const log = new FixtureLog(seed);
  for (let i = 0; i < entries; i++) {
    log.append({ action: 'identity.device-enrolled', actor: 'plane', details: { n: String(i) }, object: `device/${i}`, time: '2026-11-22T19:00:00.000Z' });
  }
  return log;
}

const reader =
  (log: FixtureLog, alter: (path: string, file: Bytes) => void = () => {}) =>
  async (path: string): Promise<Bytes> => {
    const file = log.file(path);
    if (!file) throw new Failure(path, 'the file is missing');
    const copy = new Uint8Array(file);
    alter(path, copy);
    return copy;
  };

describe('the tree', () => {
  test('has the roots of the known vectors of Certificate Transparency', async () => {
    const leaves = ['', '00', '10', '2021', '3031', '40414243', '5051525354555657', '606162636465666768696a6b6c6d6e6f'];
    const roots = [
      '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d',
      'fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125',
      'aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77',
      'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7',
      '4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4',
      '76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef',
      'ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c',
      '5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328',
    ];
    const hashes = await Promise.all(leaves.map((leaf) => leafHash(new Uint8Array(Buffer.from(leaf, 'hex')))));
    for (const [i, root] of roots.entries()) expect(hex(await rootOf(hashes.slice(0, i + 1)))).toBe(root);
  });

  test('a proof of the wrong length is refused', async () => {
    const leaf = await leafHash(utf8('x'));
    await expect(rootFromInclusion(0, 1, leaf, [leaf])).rejects.toThrow('too many');
    await expect(rootFromInclusion(2, 5, leaf, [leaf])).rejects.toThrow('too few');
    await expect(rootFromInclusion(0, 2, leaf, [leaf, leaf])).rejects.toThrow('too many');
    await expect(rootFromInclusion(5, 5, leaf, [])).rejects.toThrow('outside');
  });
});

describe('keys and checkpoints', () => {
  test("the specification's own key is read", async () => {
    const key = await parseKey('example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k');
    expect(key.name).toBe('example.com/foo');
    for (const broken of ['', 'a+b', 'example.com/foo+530d903b+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k', 'example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2l']) {
      await expect(parseKey(broken)).rejects.toThrow(Failure);
    }
  });

  test('every altered byte of a checkpoint is refused', async () => {
    const log = filled(3);
    const key = await parseKey(log.vkey);
    const note = log.checkpoint();
    expect((await openCheckpoint(note, key)).size).toBe(3);
    for (let i = 0; i < note.length; i++) {
      const altered = note.slice(0, i) + (note[i] === 'x' ? 'y' : 'x') + note.slice(i + 1);
      await expect(openCheckpoint(altered, key), `byte ${i}`).rejects.toThrow(Failure);
    }
  });

  test("a checkpoint by another key of the log's name is refused", async () => {
    const key = await parseKey(filled(3, 8).vkey);
    await expect(openCheckpoint(filled(3).checkpoint(), key)).rejects.toThrow('not signed by');
  });

  test('base64 has one spelling', () => {
    expect(() => fromBase64('AB==')).toThrow();
    expect(() => fromBase64('A A=')).toThrow();
  });
});

describe('a published log', () => {
  test('proves every entry, for trees of many shapes', async () => {
    for (const size of [1, 2, 3, 7, 255, 256, 257, 600]) {
      const log = filled(size);
      const open = await Log.open(reader(log), await parseKey(log.vkey));
      for (const index of new Set([0, 1, Math.floor(size / 2), size - 2, size - 1].filter((i) => i >= 0 && i < size))) {
        const proof = await open.prove(index);
        expect(proof.leaf).toBe(log.leaves[index]?.toString());
      }
      await expect(open.prove(size)).rejects.toThrow('not among them');
    }
  });

  test('names its tiles as the standard does', () => {
    expect(tilePath('0', 1_234_067, 256)).toBe('tile/0/x001/x234/067');
    expect(tilePath('entries', 0, 12)).toBe('tile/entries/000.p/12');
  });

  test('one altered byte on the way from an entry to the root is found', async () => {
    const log = filled(300);
    const key = await parseKey(log.vkey);
    const second = 2 + log.leaves[0]!.length + 2;
    const cases: [number, string, number][] = [
      [1, 'tile/entries/000', second + 5],
      [1, 'tile/0/000', 5],
      [1, 'tile/0/001.p/44', 37],
      [280, 'tile/1/000.p/1', 5],
      [280, 'checkpoint', log.origin.length + 12],
    ];
    for (const [index, target, at] of cases) {
      const alter = (path: string, file: Bytes) => {
        if (path === target) file[at]! ^= 1;
      };
      const proving = Log.open(reader(log, alter), key).then((open) => open.prove(index));
      await expect(proving, target).rejects.toThrow(Failure);
      await expect((await Log.open(reader(log), key)).prove(index)).resolves.toBeTruthy();
    }
  });

  test('an entry put in the place of another is found', async () => {
    const log = filled(20);
    const key = await parseKey(log.vkey);
    const open = await Log.open(reader(log), key);
    const swapped = log.leaves[4]!;
    log.leaves[4] = Buffer.from(swapped.toString().replace('device/4', 'device/9'));
    // The tiles stay those of the old tree: only the bundle lies.
    const honest = filled(20);
    const lying = async (path: string) => new Uint8Array((path.startsWith('tile/entries') ? log : honest).file(path)!);
    await expect((await Log.open(lying, key)).prove(4)).rejects.toThrow('entry 4');
    await expect((await Log.open(lying, key)).prove(5)).resolves.toBeTruthy();
    expect(open.checkpoint.size).toBe(20);
  });

  test('a rewritten or rolled back log is seen by a browser that was here before', async () => {
    const old = filled(290);
    const key = await parseKey(old.vkey);
    const kept = await compareWithKept(await Log.open(reader(old), key), old.vkey, undefined);
    const grown = filled(610);
    expect((await compareWithKept(await Log.open(reader(grown), key), old.vkey, kept)).size).toBe(610);
    const rewritten = filled(610);
    rewritten.leaves[17] = Buffer.from('{}');
    await expect(compareWithKept(await Log.open(reader(rewritten), key), old.vkey, kept)).rejects.toThrow('REWRITTEN');
    await expect(compareWithKept(await Log.open(reader(filled(200)), key), old.vkey, kept)).rejects.toThrow('rolled back');
    await expect(compareWithKept(await Log.open(reader(grown), key), 'other', kept)).rejects.toThrow('another key');
  });
});
