"""A second reading of RFC 8520: decides about packets from the MUD file itself, without any of our
rules. Reads {"file": .., "site": .., "probes": [..]} and writes a list of booleans.

A packet passes if an entry of its direction's lists accepts it, and it does not open a TCP
connection which the file says the other side opens (section 3.8, direction-initiated). What the
site's gateway always lets through is no part of MUD and not asked here. Entries that a router cannot
tell apart (frames, extension headers) are named by "left_out" and skipped.
"""

import ipaddress
import json
import sys


def within(address, networks):
    return any(
        address.version == network.version and address in network
        for network in map(ipaddress.ip_network, networks)
    )


def port_holds(want, port):
    if want is None:
        return True
    if "lower-port" in want:
        return want["lower-port"] <= port <= want.get("upper-port", want["lower-port"])
    return {
        "eq": port == want["port"],
        "neq": port != want["port"],
        "lte": port <= want["port"],
        "gte": port >= want["port"],
    }[want.get("operator", "eq")]


def class_holds(classes, remote, site):
    for name, value in (classes or {}).items():
        if name == "local-networks":
            networks = site["local_networks"]
        elif name == "controller":
            networks = site["controllers"].get(value, [])
        elif name == "my-controller":
            networks = site["my_controller"]
        else:
            networks = site["classes"].get(name, {}).get(str(value), [])
        if not within(remote, networks):
            return False
    return True


def matches(entry, kind, probe, side, site):
    """Whether the packet fits the entry, `side` being how its remote end is called in it."""
    want = entry["matches"]
    remote = ipaddress.ip_address(probe["destination"] if side == "destination" else probe["source"])
    device = ipaddress.ip_address(probe["source"] if side == "destination" else probe["destination"])
    version = "ipv4" if "ipv4" in kind else "ipv6"
    if remote.version != int(version[3]):
        return False
    header = want.get(version, {})
    other = "source" if side == "destination" else "destination"
    protocol = header.get("protocol")
    for name, number in (("tcp", 6), ("udp", 17)):
        if name in want:
            protocol = number
            for end in ("source", "destination"):
                if not port_holds(want[name].get(f"{end}-port"), probe[f"{end}_port"]):
                    return False
    if "icmp" in want:
        protocol = 1 if version == "ipv4" else 58
        if want["icmp"]["type"] != probe["icmp"][0]:
            return False
        if want["icmp"].get("code", probe["icmp"][1]) != probe["icmp"][1]:
            return False
    if protocol is not None and protocol != probe["protocol"]:
        return False
    host = header.get("ietf-acldns:" + {"source": "src", "destination": "dst"}[side] + "-dnsname")
    if host is not None and not within(remote, site["names"].get(host.lower(), [])):
        return False
    for end, address in ((side, remote), (other, device)):
        network = header.get(f"{end}-{version}-network")
        if network is not None and not within(address, [network]):
            return False
    return class_holds(want.get("ietf-mud:mud"), remote, site)


def lists(file, policy):
    named = file["ietf-mud:mud"].get(policy, {}).get("access-lists", {}).get("access-list", [])
    every = file.get("ietf-access-control-list:acls") or file["ietf-access-control-list:access-lists"]
    by_name = {one["name"]: one for one in every["acl"]}
    for one in named:
        found = by_name[one["name"]]
        for entry in found["aces"]["ace"]:
            yield entry, found["type"]


def opener(entry):
    return entry["matches"].get("tcp", {}).get("ietf-mud:direction-initiated")


def judge(file, site, left_out, probe):
    from_device = probe["from_device"]
    here, there = ("from-device", "to-device") if from_device else ("to-device", "from-device")
    side, mirrored = ("destination", "source") if from_device else ("source", "destination")
    if probe["protocol"] == 6:
        # The same ends, as the packet in answer would have them.
        swapped = dict(
            probe,
            source=probe["destination"],
            destination=probe["source"],
            source_port=probe["destination_port"],
            destination_port=probe["source_port"],
        )
        for entry, kind in lists(file, there + "-policy"):
            if entry["name"] in left_out or opener(entry) != there:
                continue
            if matches(entry, kind, swapped, mirrored, site):
                return False
    for entry, kind in lists(file, here + "-policy"):
        if entry["name"] in left_out or opener(entry) == there:
            continue
        if matches(entry, kind, probe, side, site):
            return entry["actions"]["forwarding"] == "accept"
    return False


def main():
    asked = json.load(sys.stdin)
    left_out = set(asked["left_out"])
    json.dump([judge(asked["file"], asked["site"], left_out, probe) for probe in asked["probes"]], sys.stdout)


if __name__ == "__main__":
    main()
