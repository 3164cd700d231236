#!/usr/bin/env python3
"""Verifies the signature of a Fleetward webhook. Standard library only: copy `verify`.

    python3 webhook.py --secret-file FILE --signature HEADER < body

prints the message's id and ends with 0 if the secret's owner sent this body within five minutes.
"""

import argparse
import hmac
import json
import re
import sys
import time


def verify(secret: str, header: str, body: bytes, now: float, tolerance: int = 300) -> bool:
    """True if `header` (Fleetward-Signature) signs `body`, the bytes as they came."""
    fields = re.fullmatch(r"t=([0-9]{1,12}),v1=([0-9a-f]{64})", header)
    if fields is None or abs(now - int(fields[1])) > tolerance:
        return False
    signed = fields[1].encode() + b"." + body
    expected = hmac.new(secret.encode(), signed, "sha256").hexdigest()
    # Not ==, which takes longer the more of a guess is right.
    return hmac.compare_digest(expected, fields[2])


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--secret-file", required=True)
    parser.add_argument("--signature", required=True)
    given = parser.parse_args()
    with open(given.secret_file, encoding="utf-8") as file:
        secret = file.readline().strip()
    body = sys.stdin.buffer.read()
    if not verify(secret, given.signature, body, time.time()):
        print("refused: the signature does not fit the body, the secret or the time")
        return 1
    print(json.loads(body)["id"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
