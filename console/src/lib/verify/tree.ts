/** The Merkle tree of RFC 9162 section 2.1, over SHA-256. */

import { type Bytes, sha256 } from './bytes';

const LEAF = Uint8Array.of(0);
const NODE = Uint8Array.of(1);

export function leafHash(leaf: Uint8Array): Promise<Bytes> {
  return sha256(LEAF, leaf);
}

export function nodeHash(left: Uint8Array, right: Uint8Array): Promise<Bytes> {
  return sha256(NODE, left, right);
}

/** The largest power of two below `size`: where a tree of this size divides. */
export function split(size: number): number {
  let k = 1;
  while (k * 2 < size) k *= 2;
  return k;
}

/** The root over hashes that are already those of leaves or of whole subtrees of one size. */
export async function rootOf(hashes: Bytes[]): Promise<Bytes> {
  const [only] = hashes;
  if (!only) return sha256();
  if (hashes.length === 1) return only;
  const k = split(hashes.length);
  return nodeHash(await rootOf(hashes.slice(0, k)), await rootOf(hashes.slice(k)));
}

/**
 * The root to which an inclusion proof leads (section 2.1.3.2).
 *
 * @throws if the proof's length does not fit the place.
 */
export async function rootFromInclusion(
  index: number,
  size: number,
  leaf: Bytes,
  proof: Bytes[],
): Promise<Bytes> {
  if (index >= size) throw new Error('the place lies outside the tree');
  if (size === 1) {
    if (proof.length > 0) throw new Error('too many hashes');
    return leaf;
  }
  const sibling = proof.at(-1);
  if (!sibling) throw new Error('too few hashes');
  const k = split(size);
  const rest = proof.slice(0, -1);
  return index < k
    ? nodeHash(await rootFromInclusion(index, k, leaf, rest), sibling)
    : nodeHash(sibling, await rootFromInclusion(index - k, size - k, leaf, rest));
}
