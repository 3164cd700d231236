#!/usr/bin/env python3
"""Verify a Fleetward audit log without Fleetward.

    verify.py bundle FILE   --key VKEY [--key WITNESS_VKEY]... [--seen CHECKPOINT]
    verify.py log    FOLDER --key VKEY [--key WITNESS_VKEY]... [--seen CHECKPOINT]

Needs Python 3.11 and the package `cryptography` (for Ed25519); shares no code with Fleetward.
Exit status 0: all that is said holds. 1: it does not, and the last line says where.

--seen is a signed checkpoint that you kept from an earlier day: the log must have only grown.
Formats: docs/audit.md; C2SP signed-note, tlog-checkpoint, tlog-tiles; RFC 9162 section 2.1.
"""

import argparse
import base64
import hashlib
import json
import re
import sys
from datetime import datetime
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

SIZE_MAX = 2**53  # numbers stay exact in every JSON reader
NOTE_MAX = 64 * 1024
BUNDLE_MAX = 16 * 1024 * 1024
ENTRIES_FILE_MAX = 256 * (2 + 65535)


class Failure(Exception):
    """Something does not hold. `place` uses the same words as `fleetward audit verify`."""

    def __init__(self, place, what):
        super().__init__(f"{place}: {what}")


# ---------------------------------------------------------------- hashes and proofs (RFC 9162)


def sha256(data):
    return hashlib.sha256(data).digest()


def leaf_hash(leaf):
    return sha256(b"\x00" + leaf)


def node_hash(left, right):
    return sha256(b"\x01" + left + right)


def split(size):
    """The largest power of two below size: where a tree of this size divides."""
    return 1 << (size - 1).bit_length() - 1


def tree_root(hashes):
    if len(hashes) == 0:
        return sha256(b"")
    if len(hashes) == 1:
        return hashes[0]
    k = split(len(hashes))
    return node_hash(tree_root(hashes[:k]), tree_root(hashes[k:]))


def root_from_inclusion(index, size, leaf, proof):
    """The root to which an inclusion proof leads. Raises ValueError if its length is wrong."""
    if size == 1:
        if proof:
            raise ValueError("too many hashes")
        return leaf
    if not proof:
        raise ValueError("too few hashes")
    k, sibling, rest = split(size), proof[-1], proof[:-1]
    if index < k:
        return node_hash(root_from_inclusion(index, k, leaf, rest), sibling)
    return node_hash(sibling, root_from_inclusion(index - k, size - k, leaf, rest))


def roots_from_consistency(old, new, proof, old_root, whole=True):
    """The two roots to which a consistency proof leads. 0 < old <= new."""
    if old == new:
        if len(proof) != (0 if whole else 1):
            raise ValueError("wrong number of hashes")
        return (old_root, old_root) if whole else (proof[0], proof[0])
    if not proof:
        raise ValueError("too few hashes")
    k, sibling, rest = split(new), proof[-1], proof[:-1]
    if old <= k:
        a, b = roots_from_consistency(old, k, rest, old_root, whole)
        return a, node_hash(b, sibling)
    a, b = roots_from_consistency(old - k, new - k, rest, old_root, False)
    return node_hash(sibling, a), node_hash(sibling, b)


# ---------------------------------------------------------------- keys, notes, checkpoints (C2SP)


def from_base64(text):
    """Standard alphabet, padded, one spelling only."""
    data = base64.b64decode(text, validate=True)
    if base64.b64encode(data).decode() != text:
        raise ValueError("not canonical base64")
    return data


def number(text):
    if not re.fullmatch(r"0|[1-9][0-9]{0,15}", text) or int(text) > SIZE_MAX:
        raise ValueError("not a plain decimal number")
    return int(text)


def parse_key(vkey):
    """`<name>+<id>+<base64 of type and public key>`; type 1 is a log's, type 4 a witness's."""
    try:
        name, key_id, key = vkey.strip().split("+", 2)
        key = from_base64(key)
        if sha256(name.encode() + b"\n" + key)[:4].hex() != key_id:
            raise ValueError("its id does not fit")
        if len(key) != 33 or key[0] not in (1, 4):
            raise ValueError("not an Ed25519 key of a log or a witness")
    except ValueError as error:
        raise Failure("key", f"not a verifier key: {error}") from None
    return {"name": name, "id": bytes.fromhex(key_id), "type": key[0], "public": key[1:]}


def open_checkpoint(note, keys):
    """Checks all signatures by known keys. Gives origin, size, root and the witnesses' names."""
    if len(note) > NOTE_MAX or any(ord(c) < 32 and c != "\n" or ord(c) == 127 for c in note):
        raise Failure("checkpoint", "not a signed note: too long, or a control character in it")
    text, blank, lines = note.rpartition("\n\n")
    if not blank or not lines.endswith("\n"):
        raise Failure("checkpoint", "not a signed note: no blank line, or a torn last line")
    text += "\n"
    by_log, witnesses = set(), set()
    for line in lines[:-1].split("\n"):
        parts = line.split(" ")
        try:
            dash, name, blob = parts
            blob = from_base64(blob)
            if dash != "\u2014" or len(blob) < 5:
                raise ValueError
        except ValueError:
            raise Failure("checkpoint", "not a signed note: a malformed signature line") from None
        for key in keys:
            if (name, blob[:4]) != (key["name"], key["id"]):
                continue
            message, signature = text.encode(), blob[4:]
            if key["type"] == 4:
                time = int.from_bytes(signature[:8])
                message, signature = f"cosignature/v1\ntime {time}\n".encode() + message, signature[8:]
            try:
                Ed25519PublicKey.from_public_bytes(key["public"]).verify(signature, message)
            except InvalidSignature:
                raise Failure(
                    f"signature of {printable(name)} on the checkpoint",
                    "it does not fit: the origin, size, root or signature was altered",
                ) from None
            (witnesses if key["type"] == 4 else by_log).add(name)
    try:
        origin, size, root, end = text.split("\n")
        size, root = number(size), from_base64(root)
        if not origin or end or len(root) != 32:
            raise ValueError
    except ValueError:
        raise Failure("checkpoint", "its text is not origin, size and root") from None
    if origin not in by_log:
        raise Failure(
            f"signature of {', '.join(printable(key['name']) for key in keys)} on the checkpoint",
            "the checkpoint is not signed by the log's key that you gave",
        )
    return {"origin": origin, "size": size, "root": root, "witnesses": sorted(witnesses)}


def check_seen(seen, now):
    """What can be said of two checkpoints without a proof. True if a proof is still needed."""
    if seen["origin"] != now["origin"]:
        raise Failure("checkpoint", "it belongs to another log than the checkpoint that you kept")
    if now["size"] < seen["size"]:
        raise Failure("checkpoint", f"rolled back: {now['size']} leaves, you have seen {seen['size']}")
    if now["size"] == seen["size"] and now["root"] != seen["root"]:
        raise Failure("checkpoint", f"REWRITTEN: another root for the same {seen['size']} leaves")
    return 0 < seen["size"] < now["size"]


# ---------------------------------------------------------------- entries


def strict_json(data):
    """JSON with integers only, no doubled key, and nothing that Python adds to JSON."""

    def refuse(text):
        raise ValueError(f"{text[:20]} is not allowed")

    def once(pairs):
        if len(dict(pairs)) != len(pairs):
            raise ValueError("a doubled key")
        return dict(pairs)

    try:
        return json.loads(data, object_pairs_hook=once, parse_float=refuse, parse_constant=refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None


FIELDS = {"action", "actor", "details", "object", "tenant", "time", "v"}


def parse_entry(index, leaf):
    """An entry in its one canonical spelling (RFC 8785)."""
    try:
        entry = strict_json(leaf.decode())
        if not isinstance(entry, dict) or set(entry) - {"request"} != FIELDS:
            raise ValueError("unknown or missing fields")
        if type(entry["v"]) is not int or entry["v"] != 1:
            raise ValueError("another version")
        if not isinstance(entry["details"], dict):
            raise ValueError("details are not an object")
        texts = [value for name, value in entry.items() if name not in ("v", "details")]
        if not all(isinstance(text, str) for text in texts + list(entry["details"].values())):
            raise ValueError("a field is not text")
        if not re.fullmatch(r"[0-9-]{10}T[0-9:]{8}\.[0-9]{3}Z", entry["time"]):
            raise ValueError("time is not RFC 3339 with milliseconds")
        datetime.strptime(entry["time"], "%Y-%m-%dT%H:%M:%S.%fZ")
        canonical = json.dumps(entry, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        if canonical.encode() != leaf:
            raise ValueError("not in canonical form")
    except ValueError as error:
        raise Failure(f"entry {index}", f"it is in the log, but cannot be read: {error}") from None
    return entry


def printable(text):
    """Text from a device must not act on a terminal."""
    return ascii(text)[1:-1]


def print_entry(index, entry):
    line = " ".join(printable(entry[name]) for name in ("time", "actor", "action", "object"))
    print(f"  {index}: {line}")


# ---------------------------------------------------------------- a bundle file


def verify_bundle(path, keys, seen):
    with open(path, "rb") as file:
        data = file.read(BUNDLE_MAX + 1)
    if len(data) > BUNDLE_MAX:
        raise Failure("file", "larger than 16 MiB")
    bundle, proofs = read_bundle(data)
    checkpoint = open_checkpoint(bundle["checkpoint"], keys)
    size, root = checkpoint["size"], checkpoint["root"]
    if bundle["origin"] != checkpoint["origin"]:
        raise Failure("checkpoint", "the file names another origin than the signed checkpoint")

    if seen and check_seen(seen, checkpoint):
        growth = bundle.get("consistency")
        if growth is None or growth["from"] != seen["size"]:
            raise Failure("consistency proof", f"missing; ask for a bundle made since {seen['size']}")
        try:
            roots = roots_from_consistency(seen["size"], size, proofs["growth"], seen["root"])
        except ValueError:
            roots = None
        if roots != (seen["root"], root):
            raise Failure("consistency proof", f"REWRITTEN: from {seen['size']} to {size} it is no growth")

    indices = [entry["index"] for entry in bundle["entries"]]
    for before, after in zip(indices, indices[1:]):
        if before >= after:
            raise Failure(f"entry {after}", "it stands after an entry that comes later in the log")
    if "range" in bundle:
        first, end = bundle["range"]["first"], bundle["range"]["end"]
        claim = f"the bundle claims to hold exactly entries {first} to {end - 1}"
        for index in indices:
            if not first <= index < end:
                raise Failure(f"entry {index}", f"it lies outside, but {claim}")
        present = set(indices)
        if len(present) != end - first:
            missing = next(i for i in range(first, end) if i not in present)
            raise Failure(f"entry {missing}", f"it is missing, but {claim}")

    for index, entry in zip(indices, bundle["entries"]):
        try:
            if index >= size:
                raise ValueError("its index is not in the tree")
            leaf = entry["leaf"].encode()
            if root_from_inclusion(index, size, leaf_hash(leaf), proofs[index]) != root:
                raise ValueError("they lead to another root")
        except ValueError as error:
            raise Failure(f"entry {index}", f"the entry or its inclusion proof was altered: {error}") from None
        print_entry(index, parse_entry(index, leaf))
    print(f"{len(indices)} entries are in the log {printable(checkpoint['origin'])} of {size} entries.")
    if "range" in bundle:
        print(f"They are all there is from {first} to {end - 1}.")
    if len(indices) != size:
        print("Warning: a part of the log: it says nothing about the other entries.")
    return checkpoint


def read_bundle(data):
    """The file's JSON with exactly the fields and types it must have, and its proofs as bytes."""

    def expect(value, kind, fields=None, optional=()):
        if type(value) is not kind:
            raise ValueError(f"a {type(value).__name__} where a {kind.__name__} belongs")
        if kind is int and value < 0:
            raise ValueError("a negative number")
        if fields is not None and set(value) - set(optional) != set(fields):
            raise ValueError("a field is unknown or missing")
        return value

    def hashes(values):
        decoded = [from_base64(expect(value, str)) for value in expect(values, list)]
        if any(len(value) != 32 for value in decoded):
            raise ValueError("a hash is not 32 bytes")
        return decoded

    proofs = {}
    try:
        bundle = expect(
            strict_json(data.decode()),
            dict,
            ("format", "origin", "checkpoint", "entries"),
            ("range", "consistency"),
        )
        if bundle["format"] != "fleetward-audit-bundle@1":
            raise ValueError("another format")
        expect(bundle["origin"], str)
        expect(bundle["checkpoint"], str)
        for entry in expect(bundle["entries"], list):
            expect(entry, dict, ("index", "leaf", "proof"))
            expect(entry["leaf"], str)
            proofs[expect(entry["index"], int)] = hashes(entry["proof"])
        if "range" in bundle:
            expect(bundle["range"], dict, ("first", "end"))
            expect(bundle["range"]["first"], int)
            expect(bundle["range"]["end"], int)
            if bundle["range"]["first"] >= bundle["range"]["end"]:
                raise ValueError("an empty range")
        if "consistency" in bundle:
            expect(bundle["consistency"], dict, ("from", "proof"))
            expect(bundle["consistency"]["from"], int)
            proofs["growth"] = hashes(bundle["consistency"]["proof"])
    except ValueError as error:
        raise Failure("file", f"not a bundle: {error}") from None
    return bundle, proofs


# ---------------------------------------------------------------- a published log


class Log:
    """The files of a log (C2SP tlog-tiles), for a tree of a given size."""

    def __init__(self, folder, size):
        self.folder, self.size = Path(folder), size

    def width(self, level, index):
        """How many hashes this tile has: 0 if it does not exist, 256 if it is full."""
        return max(0, min(256, (self.size >> 8 * level) - index * 256))

    def path(self, kind, index, width):
        groups = [f"{index % 1000:03}"]
        while index := index // 1000:
            groups.insert(0, f"x{index % 1000:03}")
        return f"tile/{kind}/{'/'.join(groups)}" + (f".p/{width}" if width < 256 else "")

    def read(self, kind, index, width):
        """A file that must exist; for a partial one, the full one that replaced it will do."""
        for name in (self.path(kind, index, width), self.path(kind, index, 256)):
            try:
                with open(self.folder / name, "rb") as file:
                    return file.read(ENTRIES_FILE_MAX + 1), name.endswith(f".p/{width}") or width == 256
            except (FileNotFoundError, NotADirectoryError):
                pass
        raise Failure(self.path(kind, index, width), "the file is missing")

    def tile(self, level, index):
        width = self.width(level, index)
        data, exact = self.read(level, index, width)
        if len(data) != 32 * (width if exact else 256):
            raise Failure(self.path(level, index, width), f"{len(data)} bytes instead of {32 * width}")
        return [data[i : i + 32] for i in range(0, 32 * width, 32)]

    def entries(self, index):
        width = self.width(0, index)
        data, exact = self.read("entries", index, width)
        path, entries, start = self.path("entries", index, width), [], 0
        while start < len(data) and len(entries) < width:
            end = start + 2 + int.from_bytes(data[start : start + 2])
            if end > len(data):
                break
            entries.append(data[start + 2 : end])
            start = end
        if len(entries) != width or (exact and start < len(data)):
            what = f"it holds {len(entries)} entries of {width}, and {len(data) - start} bytes that are none"
            for at, (entry, stored) in enumerate(zip(entries, self.tile(0, index))):
                if leaf_hash(entry) != stored:
                    what += f"; the first that does not fit is entry {index * 256 + at}"
                    break
            raise Failure(path, what)
        return entries

    def root_at(self, size, instead=None):
        """The root of the first `size` leaves, from the tiles at the right edge of that tree."""
        parts = []
        for level in reversed(range(8)):
            count, index = (size >> 8 * level) % 256, size >> 8 * level >> 8
            if instead and instead[0] == level:
                row = instead[1]
            else:
                row = self.tile(level, index)[:count] if count else []
            while row:
                k = 1 << len(row).bit_length() - 1
                parts.append(tree_root(row[:k]))
                row = row[k:]
        if not parts:
            return sha256(b"")
        root = parts.pop()
        while parts:
            root = node_hash(parts.pop(), root)
        return root


def verify_log(folder, keys, seen):
    try:
        with open(Path(folder) / "checkpoint", "rb") as file:
            note = file.read(NOTE_MAX + 1)
        checkpoint = open_checkpoint(note.decode(), keys)
    except FileNotFoundError:
        raise Failure("checkpoint", "the file is missing") from None
    except UnicodeDecodeError:
        raise Failure("checkpoint", "not a signed note: not UTF-8") from None
    size, root = checkpoint["size"], checkpoint["root"]
    needs_proof = seen and check_seen(seen, checkpoint)
    log = Log(folder, size)

    hashes_below = None  # level 0 is made of entries, each other level of the full tiles below
    for level in range(8):
        full_tiles = []
        for index in range(((size >> 8 * level) + 255) // 256):
            if level == 0:
                entries = log.entries(index)
                hashes = [leaf_hash(entry) for entry in entries]
            else:
                hashes = hashes_below[index * 256 : index * 256 + 256]
            compare_tile(log, root, level, index, hashes)
            if level == 0:
                for at, entry in enumerate(entries):
                    parse_entry(index * 256 + at, entry)
            if len(hashes) == 256:
                full_tiles.append(tree_root(hashes))
        hashes_below = full_tiles
    if log.root_at(size) != root:
        raise Failure("checkpoint", "all entries and tiles fit each other, but not the root that was signed")
    if needs_proof and log.root_at(seen["size"]) != seen["root"]:
        raise Failure("checkpoint", f"REWRITTEN: the first {seen['size']} leaves are not those that you have seen")
    print(f"All {size} entries of the log {printable(checkpoint['origin'])} fit its signed checkpoint.")
    return checkpoint


def compare_tile(log, root, level, index, computed):
    """Where a tile and what lies below it differ, the tree above tells which was altered."""
    stored = log.tile(level, index)
    if stored == computed:
        return
    at = next(i for i in range(256) if stored[i] != computed[i])

    def fits_above(hashes):
        try:
            if len(hashes) < 256:
                return log.root_at(log.size, (level, hashes)) == root
            return log.tile(level + 1, index // 256)[index % 256] == tree_root(hashes)
        except Failure:
            return False

    if not fits_above(computed) and fits_above(stored):
        if level == 0:
            raise Failure(f"entry {index * 256 + at}", "its bytes were altered: the tree above holds another")
        span = 256**level
        first = (index * 256 + at) * span
        raise Failure(f"entries {first} to {first + span - 1}", "altered together with the tiles below")
    path = log.path(level, index, log.width(level, index))
    raise Failure(f"{path} (hash {at})", "this hash is not that of what lies below it")


# ---------------------------------------------------------------- the command


def main():
    parser = argparse.ArgumentParser(description="Verify a Fleetward audit log without Fleetward.")
    parser.add_argument("what", choices=["bundle", "log"])
    parser.add_argument("path", help="the bundle file, or the folder with checkpoint and tile/")
    parser.add_argument("--key", action="append", required=True, help="the log's verifier key; witnesses' too")
    parser.add_argument("--seen", help="a checkpoint file that you kept from an earlier day")
    options = parser.parse_args()
    try:
        keys = [parse_key(key) for key in options.key]
        seen = None
        if options.seen:
            with open(options.seen, encoding="utf-8", newline="") as file:
                seen = open_checkpoint(file.read(NOTE_MAX + 1), keys)
        verify = verify_bundle if options.what == "bundle" else verify_log
        checkpoint = verify(options.path, keys, seen)
    except Failure as failure:
        print(f"FAILED at {failure}")
        return 1
    except (OSError, ValueError) as error:
        print(f"FAILED at file: {printable(str(error))}")
        return 1
    if checkpoint["witnesses"]:
        print("Cosigned by " + ", ".join(printable(name) for name in checkpoint["witnesses"]) + ".")
    else:
        print("Warning: does not exclude a second history: no known witness has cosigned the checkpoint.")
    print("OK")
    return 0


if __name__ == "__main__":
    sys.exit(main())
