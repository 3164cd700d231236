"""A gateway for packets: loads rulesets into a network namespace of its own, sends it one packet for
each probe, and tells which of them its nftables let pass.

Reads a list of scenarios as JSON, each {"batches": [..], "probes": [..]}, and writes for each the
numbers of the probes that passed. Runs as `unshare -rn python3 gateway.py`. Packets carry the number
of their probe as the Ethernet source, so that the kernel itself can say which came through.
"""

import json
import os
import socket
import struct
import subprocess
import sys

PROBE_TABLE = """
table inet probe {
  set passed { type ether_addr; size 65535; flags dynamic; }
  counter seen { }
  chain arriving { type filter hook prerouting priority -400; policy accept;
    iifname { "lan0", "wan0" } ether saddr & ff:ff:00:00:00:00 == 02:aa:00:00:00:00 counter name seen
  }
  chain leaving { type filter hook prerouting priority -50; policy accept;
    iifname { "lan0", "wan0" } add @passed { ether saddr }
    iifname { "lan0", "wan0" } drop
  }
}
"""
ENDS = {"lan0": "dev0", "wan0": "net0"}


def run(*words, text=None):
    done = subprocess.run(words, input=text, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(words)}: {done.stderr[:2000]}")
    return done.stdout


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def carried(probe, source, target):
    """What is behind the IP header, with its checksum."""
    number = probe["protocol"]
    ports = struct.pack("!HH", probe["source_port"], probe["destination_port"])
    if number == 6:
        body = ports + struct.pack("!IIBBHHH", 7, 0, 0x50, 0x02, 1024, 0, 0)
        at = 16
    elif number == 17:
        body = ports + struct.pack("!HH", 12, 0) + b"ping"
        at = 6
    elif number in (1, 58):
        body = struct.pack("!BBHHH", *probe["icmp"], 0, 7, 7) + b"\x45" + bytes(39)
        at = 2
    else:
        return bytes(8)
    pseudo = b""
    if number != 1:
        pseudo = source + target + struct.pack("!IHBB", len(body), 0, 0, number)
    found = checksum(pseudo + body)
    if number == 17 and found == 0:
        found = 0xFFFF
    return body[:at] + struct.pack("!H", found) + body[at + 2 :]


def packet(probe):
    family = socket.AF_INET6 if ":" in probe["source"] else socket.AF_INET
    source = socket.inet_pton(family, probe["source"])
    target = socket.inet_pton(family, probe["destination"])
    body = carried(probe, source, target)
    if family == socket.AF_INET6:
        head = struct.pack("!IHBB", 6 << 28, len(body), probe["protocol"], 64)
        return 0x86DD, head + source + target + body
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0, 64, probe["protocol"], 0)
    head += source + target
    return 0x0800, head[:10] + struct.pack("!H", checksum(head)) + head[12:] + body


def address(link):
    shown = json.loads(run("ip", "-j", "link", "show", link))
    return bytes.fromhex(shown[0]["address"].replace(":", ""))


def counter(name):
    listed = json.loads(run("nft", "-j", "list", "counter", "inet", "probe", name))
    return next(one["counter"]["packets"] for one in listed["nftables"] if "counter" in one)


def passed():
    listed = json.loads(run("nft", "-j", "list", "set", "inet", "probe", "passed"))
    found = next(one["set"] for one in listed["nftables"] if "set" in one)
    return [int(mac.replace(":", "")[4:], 16) for mac in found.get("elem", [])]


def main():
    scenarios = json.load(sys.stdin)
    run("ip", "link", "set", "lo", "up")
    sockets = {}
    for inside, outside in ENDS.items():
        run("ip", "link", "add", inside, "type", "veth", "peer", "name", outside)
        # Only probes speak on these.
        run("ip", "link", "set", outside, "addrgenmode", "none")
        for link in (inside, outside):
            run("ip", "link", "set", link, "up")
        sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        sender.bind((outside, 0))
        sockets[inside] = (sender, address(inside))
    answers = []
    for scenario in scenarios:
        run("nft", "flush", "ruleset")
        for batch in scenario["batches"]:
            run("nft", "-c", "-f", "-", text=batch)
            run("nft", "-f", "-", text=batch)
        run("nft", "-f", "-", text=PROBE_TABLE)
        for number, probe in enumerate(scenario["probes"]):
            sender, target = sockets[probe["interface"]]
            kind, content = packet(probe)
            mac = bytes.fromhex("02aa") + struct.pack("!I", number)
            frame = target + mac + struct.pack("!H", kind) + content
            sender.send(frame.ljust(60, b"\0"))
        seen = counter("seen")
        if seen != len(scenario["probes"]):
            raise SystemExit(f"{seen} of {len(scenario['probes'])} packets arrived")
        answers.append(passed())
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    os.environ["PATH"] = "/usr/sbin:/usr/bin:" + os.environ.get("PATH", "")
    main()
