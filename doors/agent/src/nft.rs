//! A table of our own in nftables: it counts where the device sends, and in quarantine drops what
//! does not go to the plane.
//!
//! The kernel takes the table away when the agent ends, and lets nobody else change it: it belongs
//! to our socket (`NFT_TABLE_F_OWNER`, Linux 5.12). Messages are those of
//! `linux/netfilter/nf_tables.h`; numbers go in network order.

use crate::netlink::{self, ACK, CREATE, Netlink, REQUEST, attribute, nested};
use detection::report::Transport;
use rustix::net::netlink::NETFILTER;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const TABLE: &str = "fleetward_agent";
const CHAIN: &str = "output";
const FENCE: &str = "quarantine";
const GRANTS: &str = "destinations";
/// Rules of one transaction: more do not fit a socket at usual limits.
pub const PASSAGES_MAX: usize = 600;
/// Destinations counted at once, of each family; what does not fit is missed until others expire.
const SET_ENTRIES: u32 = 1024;
const ENTRY_TIMEOUT_MS: u64 = 3_600_000;

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEWTABLE: u16 = 0;
const NEWCHAIN: u16 = 3;
const DELCHAIN: u16 = 5;
const NEWRULE: u16 = 6;
const GETRULE: u16 = 7;
const DELRULE: u16 = 8;
const NEWSET: u16 = 9;
const GETSETELEM: u16 = 13;
const FAMILY_INET: u8 = 1;
/// The first of the registers of four bytes.
const REGISTER: u32 = 8;

/// A table in this network namespace.
#[derive(Debug)]
pub struct Table {
    netlink: Netlink,
}

/// One destination and what was sent there since it was first counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    pub protocol: Transport,
    pub address: IpAddr,
    pub port: u16,
    pub bytes_out: u64,
}

/// What goes out to one network, or does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    pub accepts: bool,
    pub network: IpAddr,
    pub prefix: u8,
    /// `None`: any.
    pub protocol: Option<u8>,
    /// First and last.
    pub ports: Option<(u16, u16)>,
    pub ports_not: Option<u16>,
    pub icmp: Option<(u8, Option<u8>)>,
}

impl Table {
    /// Makes the table with its counting chain.
    ///
    /// # Errors
    /// If the kernel has no nftables, or does not let us (`CAP_NET_ADMIN` in this network
    /// namespace).
    pub fn make() -> io::Result<Self> {
        const OWNER: u32 = 2;
        const LOCAL_OUT: u32 = 3;
        /// Before every filter, so that what is dropped later is counted too.
        const PRIORITY: i32 = -350;
        const ACCEPT: u32 = 1;
        let mut batch = Batch::new();
        batch.add(NEWTABLE, CREATE, |out| {
            text(out, 1, TABLE);
            number(out, 2, OWNER);
        });
        for (set, id, key_bytes) in [(SETS[0].0, 1, 12), (SETS[1].0, 2, 24)] {
            batch.add(NEWSET, CREATE, |out| counting_set(out, set, id, key_bytes));
        }
        batch.add(NEWCHAIN, CREATE, |out| {
            base_chain(out, CHAIN, LOCAL_OUT, PRIORITY, ACCEPT);
        });
        for (set, family) in SETS {
            for protocol in [TCP, UDP] {
                batch.add(NEWRULE, CREATE | APPEND, |out| {
                    rule(out, CHAIN, |list| count(list, set, family, protocol));
                });
            }
        }
        let mut netlink = Netlink::open(NETFILTER)?;
        batch.send(&mut netlink)?;
        Ok(Self { netlink })
    }

    /// All destinations counted so far.
    ///
    /// # Errors
    /// If the kernel does not answer.
    pub fn counted(&mut self) -> io::Result<Vec<Counted>> {
        const ELEMENTS: u16 = 3;
        let mut found = Vec::new();
        for (set, family) in SETS {
            let mut request = vec![FAMILY_INET, 0, 0, 0];
            text(&mut request, 1, TABLE);
            text(&mut request, 2, set);
            self.netlink
                .dump(SUBSYSTEM << 8 | GETSETELEM, &request, |payload| {
                    let list = payload
                        .get(4..)
                        .and_then(|rest| netlink::find(rest, ELEMENTS));
                    for (_, element) in netlink::attributes(list.unwrap_or_default()) {
                        found.extend(counted(element, family));
                    }
                })?;
        }
        Ok(found)
    }

    /// Drops from now on what goes neither to `plane` nor to this device itself nor asks one of
    /// `resolvers`; connections that stand are not spared. An earlier fence is replaced in one step.
    ///
    /// # Errors
    /// If the kernel refuses; an earlier fence then stands.
    pub fn fence(
        &mut self,
        plane: &[SocketAddr],
        resolvers: &[IpAddr],
        stands: bool,
    ) -> io::Result<()> {
        const LOCAL_OUT: u32 = 3;
        const PRIORITY: i32 = -300;
        const DROP: u32 = 0;
        const LOOPBACK: u32 = 1;
        let mut batch = Batch::new();
        if stands {
            batch.add(DELRULE, 0, |out| {
                text(out, 1, TABLE);
                text(out, 2, FENCE);
            });
        } else {
            batch.add(NEWCHAIN, CREATE, |out| {
                base_chain(out, FENCE, LOCAL_OUT, PRIORITY, DROP);
            });
        }
        batch.add(NEWRULE, CREATE | APPEND, |out| {
            rule(out, FENCE, |list| {
                meta(list, META_OIF);
                compare(list, &LOOPBACK.to_ne_bytes());
                accept(list);
            });
        });
        // Without neighbours there is no way to the plane: ICMPv6 133 to 136.
        for kind in 133..=136u8 {
            batch.add(NEWRULE, CREATE | APPEND, |out| {
                rule(out, FENCE, |list| {
                    meta(list, META_L4PROTO);
                    compare(list, &[58]);
                    payload(list, TRANSPORT_HEADER, 0, 1, REGISTER);
                    compare(list, &[kind]);
                    accept(list);
                });
            });
        }
        for door in plane {
            batch.add(NEWRULE, CREATE | APPEND, |out| {
                rule(out, FENCE, |list| {
                    to_port(list, door.ip(), TCP, door.port())
                });
            });
        }
        for (address, protocol, port) in questions(resolvers) {
            batch.add(NEWRULE, CREATE | APPEND, |out| {
                rule(out, FENCE, |list| to_port(list, address, protocol, port));
            });
        }
        batch.send(&mut self.netlink)
    }

    /// Drops from now on what no passage lets out, the first that fits deciding. Answers go out, and
    /// what any device needs: the loopback, neighbours, DHCP to everybody, `plane`, `resolvers`. What
    /// stood before is replaced in one step.
    ///
    /// # Errors
    /// If the kernel refuses; what stood before then stands.
    pub fn grant(
        &mut self,
        plane: &[SocketAddr],
        resolvers: &[IpAddr],
        passages: &[Passage],
        stands: bool,
    ) -> io::Result<()> {
        const LOCAL_OUT: u32 = 3;
        const PRIORITY: i32 = -290;
        const DROP: u32 = 0;
        const LOOPBACK: u32 = 1;
        if passages.len() > PASSAGES_MAX {
            return Err(io::Error::other("more rules than one transaction holds"));
        }
        let mut batch = Batch::new();
        if stands {
            batch.add(DELRULE, 0, |out| {
                text(out, 1, TABLE);
                text(out, 2, GRANTS);
            });
        } else {
            batch.add(NEWCHAIN, CREATE, |out| {
                base_chain(out, GRANTS, LOCAL_OUT, PRIORITY, DROP);
            });
        }
        let mut add = |fill: &dyn Fn(&mut Vec<u8>)| {
            batch.add(NEWRULE, CREATE | APPEND, |out| {
                rule(out, GRANTS, |list| fill(list))
            });
        };
        add(&|list| {
            meta(list, META_OIF);
            compare(list, &LOOPBACK.to_ne_bytes());
            accept(list);
        });
        add(&|list| {
            answers(list);
            accept(list);
        });
        // Errors, path MTU, listeners, routers and neighbours: RFC 4890.
        for kind in [1, 2, 3, 4, 130, 131, 132, 133, 134, 135, 136, 143u8] {
            add(&|list| {
                meta(list, META_L4PROTO);
                compare(list, &[58]);
                payload(list, TRANSPORT_HEADER, 0, 1, REGISTER);
                compare(list, &[kind]);
                accept(list);
            });
        }
        for door in plane {
            add(&|list| to_port(list, door.ip(), TCP, door.port()));
        }
        let dhcp4 = IpAddr::V4(Ipv4Addr::BROADCAST);
        let dhcp6 = IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2));
        let needed = questions(resolvers).chain([(dhcp4, UDP, 67), (dhcp6, UDP, 547)]);
        for (address, protocol, port) in needed {
            add(&|list| to_port(list, address, protocol, port));
        }
        for passage in passages {
            add(&|list| passage.write(list));
        }
        batch.send(&mut self.netlink)
    }

    /// How many rules of destinations the kernel holds: fewer than were made if somebody took them.
    ///
    /// # Errors
    /// If the kernel does not answer.
    pub fn granted(&mut self) -> io::Result<usize> {
        let mut request = vec![FAMILY_INET, 0, 0, 0];
        text(&mut request, 1, TABLE);
        text(&mut request, 2, GRANTS);
        let mut count = 0;
        self.netlink
            .dump(SUBSYSTEM << 8 | GETRULE, &request, |payload| {
                // Old kernels list the rules of all chains.
                let chain = payload.get(4..).and_then(|rest| netlink::find(rest, 2));
                let chain = chain.map(|name| name.strip_suffix(&[0]).unwrap_or(name));
                count += usize::from(chain == Some(GRANTS.as_bytes()));
            })?;
        Ok(count)
    }

    /// Takes the fence away.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn lift(&mut self) -> io::Result<()> {
        let mut batch = Batch::new();
        batch.add(DELRULE, 0, |out| {
            text(out, 1, TABLE);
            text(out, 2, FENCE);
        });
        batch.add(DELCHAIN, 0, |out| {
            text(out, 1, TABLE);
            text(out, 3, FENCE);
        });
        batch.send(&mut self.netlink)
    }
}

/// The sets and the family (`NFPROTO_..`) each is for.
const SETS: [(&str, u8); 2] = [("seen4", 2), ("seen6", 10)];
const APPEND: u16 = 0x800;
const META_OIF: u32 = 5;
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Messages that the kernel takes all or none.
struct Batch {
    out: Vec<u8>,
    sequence: u32,
}

impl Batch {
    fn new() -> Self {
        let mut out = Vec::new();
        netlink::message(&mut out, BATCH_BEGIN, REQUEST, 0, &[0, 0, 0, 10]);
        Self { out, sequence: 0 }
    }

    fn add(&mut self, kind: u16, flags: u16, fill: impl FnOnce(&mut Vec<u8>)) {
        self.sequence += 1;
        let mut payload = vec![FAMILY_INET, 0, 0, 0];
        fill(&mut payload);
        let flags = REQUEST | ACK | flags;
        netlink::message(
            &mut self.out,
            SUBSYSTEM << 8 | kind,
            flags,
            self.sequence,
            &payload,
        );
    }

    fn send(mut self, netlink: &mut Netlink) -> io::Result<()> {
        netlink::message(&mut self.out, BATCH_END, REQUEST, 0, &[0, 0, 0, 10]);
        netlink.batch(&self.out, self.sequence as usize)
    }
}

/// A set whose elements come with traffic and go with time, each with a counter.
fn counting_set(out: &mut Vec<u8>, name: &str, id: u32, key_bytes: u32) {
    const TIMEOUT_AND_EVAL: u32 = 0x10 | 0x20;
    text(out, 1, TABLE);
    text(out, 2, name);
    number(out, 3, TIMEOUT_AND_EVAL);
    // For other programs' listings only: this one reads bytes.
    number(out, 4, 0);
    number(out, 5, key_bytes);
    nested(out, 9, |desc| number(desc, 1, SET_ENTRIES));
    number(out, 10, id);
    attribute(out, 11, &ENTRY_TIMEOUT_MS.to_be_bytes());
}

fn base_chain(out: &mut Vec<u8>, name: &str, hook: u32, priority: i32, policy: u32) {
    text(out, 1, TABLE);
    text(out, 3, name);
    nested(out, 4, |inside| {
        number(inside, 1, hook);
        attribute(inside, 2, &priority.to_be_bytes());
    });
    number(out, 5, policy);
    text(out, 7, "filter");
}

fn rule(out: &mut Vec<u8>, chain: &str, fill: impl FnOnce(&mut Vec<u8>)) {
    text(out, 1, TABLE);
    text(out, 2, chain);
    nested(out, 4, fill);
}

/// `oif != lo meta nfproto F meta l4proto P update @set { daddr . l4proto . dport counter }`
fn count(list: &mut Vec<u8>, set: &str, family: u8, protocol: u8) {
    const UPDATE: u32 = 1;
    const LOOPBACK: u32 = 1;
    let (offset, length) = if family == 2 { (16, 4) } else { (24, 16) };
    meta(list, META_OIF);
    compare_by(list, 1, &LOOPBACK.to_ne_bytes());
    meta(list, META_NFPROTO);
    compare(list, &[family]);
    meta(list, META_L4PROTO);
    compare(list, &[protocol]);
    payload(list, NETWORK_HEADER, offset, length, REGISTER);
    let after = REGISTER + length / 4;
    expression(list, "meta", |inside| {
        number(inside, 1, after);
        number(inside, 2, META_L4PROTO);
    });
    payload(list, TRANSPORT_HEADER, 2, 2, after + 1);
    expression(list, "dynset", |inside| {
        text(inside, 1, set);
        number(inside, 3, UPDATE);
        number(inside, 4, REGISTER);
        nested(inside, 7, |counter| {
            text(counter, 1, "counter");
            nested(counter, 2, |_| {});
        });
    });
}

/// How resolvers are asked: address, protocol and port.
fn questions(resolvers: &[IpAddr]) -> impl Iterator<Item = (IpAddr, u8, u16)> {
    (resolvers.iter()).flat_map(|resolver| [(*resolver, UDP, 53), (*resolver, TCP, 53)])
}

/// `ip daddr A meta l4proto P th dport N accept`
fn to_port(list: &mut Vec<u8>, address: IpAddr, protocol: u8, port: u16) {
    let prefix = if address.is_ipv4() { 32 } else { 128 };
    within(list, address, prefix);
    transport(list, protocol, port, port);
    accept(list);
}

/// `ct state established,related`
fn answers(list: &mut Vec<u8>) {
    const CT_STATE: u32 = 0;
    const ESTABLISHED_OR_RELATED: u32 = 2 | 4;
    const NOT_EQUAL: u32 = 1;
    expression(list, "ct", |inside| {
        number(inside, 1, REGISTER);
        number(inside, 2, CT_STATE);
    });
    mask(list, &ESTABLISHED_OR_RELATED.to_ne_bytes());
    compare_by(list, NOT_EQUAL, &0u32.to_ne_bytes());
}

/// The register and these bits.
fn mask(list: &mut Vec<u8>, bits: &[u8]) {
    let zero = vec![0; bits.len()];
    expression(list, "bitwise", |inside| {
        number(inside, 1, REGISTER);
        number(inside, 2, REGISTER);
        number(inside, 3, u32::try_from(bits.len()).unwrap_or(0));
        nested(inside, 4, |value| attribute(value, 1, bits));
        nested(inside, 5, |value| attribute(value, 1, &zero));
    });
}

/// `ip daddr NETWORK`
fn within(list: &mut Vec<u8>, network: IpAddr, prefix: u8) {
    let (family, offset, address) = match network {
        IpAddr::V4(address) => (2, 16, address.octets().to_vec()),
        IpAddr::V6(address) => (10, 24, address.octets().to_vec()),
    };
    meta(list, META_NFPROTO);
    compare(list, &[family]);
    let length = u32::try_from(address.len()).unwrap_or(0);
    if prefix == 0 {
        return;
    }
    payload(list, NETWORK_HEADER, offset, length, REGISTER);
    let bits: Vec<u8> = (0..address.len())
        .map(|at| {
            let left = usize::from(prefix).saturating_sub(8 * at).min(8);
            u8::try_from(0xff00u32 >> left & 0xff).unwrap_or(0)
        })
        .collect();
    if usize::from(prefix) < 8 * address.len() {
        mask(list, &bits);
    }
    compare(list, &address);
}

/// `meta l4proto P th dport FROM-TO`
fn transport(list: &mut Vec<u8>, protocol: u8, from: u16, to: u16) {
    const AT_MOST: u32 = 3;
    const AT_LEAST: u32 = 5;
    meta(list, META_L4PROTO);
    compare(list, &[protocol]);
    payload(list, TRANSPORT_HEADER, 2, 2, REGISTER);
    if from == to {
        compare(list, &from.to_be_bytes());
    } else {
        compare_by(list, AT_LEAST, &from.to_be_bytes());
        compare_by(list, AT_MOST, &to.to_be_bytes());
    }
}

impl Passage {
    fn write(&self, list: &mut Vec<u8>) {
        const NOT_EQUAL: u32 = 1;
        within(list, self.network, self.prefix);
        match (self.protocol, self.ports) {
            (Some(protocol), Some((from, to))) => transport(list, protocol, from, to),
            (Some(protocol), None) => {
                meta(list, META_L4PROTO);
                compare(list, &[protocol]);
            }
            (None, _) => {}
        }
        if let Some(port) = self.ports_not {
            payload(list, TRANSPORT_HEADER, 2, 2, REGISTER);
            compare_by(list, NOT_EQUAL, &port.to_be_bytes());
        }
        if let Some((kind, code)) = self.icmp {
            payload(list, TRANSPORT_HEADER, 0, 1, REGISTER);
            compare(list, &[kind]);
            if let Some(code) = code {
                payload(list, TRANSPORT_HEADER, 1, 1, REGISTER);
                compare(list, &[code]);
            }
        }
        if self.accepts {
            accept(list);
        } else {
            verdict(list, 0);
        }
    }
}

fn expression(list: &mut Vec<u8>, name: &str, fill: impl FnOnce(&mut Vec<u8>)) {
    nested(list, 1, |element| {
        text(element, 1, name);
        nested(element, 2, fill);
    });
}

fn meta(list: &mut Vec<u8>, key: u32) {
    expression(list, "meta", |inside| {
        number(inside, 1, REGISTER);
        number(inside, 2, key);
    });
}

fn payload(list: &mut Vec<u8>, base: u32, offset: u32, length: u32, register: u32) {
    expression(list, "payload", |inside| {
        number(inside, 1, register);
        number(inside, 2, base);
        number(inside, 3, offset);
        number(inside, 4, length);
    });
}

/// The register equals these bytes, or the rule ends here.
fn compare(list: &mut Vec<u8>, bytes: &[u8]) {
    compare_by(list, 0, bytes);
}

fn compare_by(list: &mut Vec<u8>, operation: u32, bytes: &[u8]) {
    expression(list, "cmp", |inside| {
        number(inside, 1, REGISTER);
        number(inside, 2, operation);
        nested(inside, 3, |value| attribute(value, 1, bytes));
    });
}

fn accept(list: &mut Vec<u8>) {
    const ACCEPT: u32 = 1;
    verdict(list, ACCEPT);
}

fn verdict(list: &mut Vec<u8>, code: u32) {
    const VERDICT_REGISTER: u32 = 0;
    expression(list, "immediate", |inside| {
        number(inside, 1, VERDICT_REGISTER);
        nested(inside, 2, |value| {
            nested(value, 2, |verdict| number(verdict, 1, code));
        });
    });
}

fn number(out: &mut Vec<u8>, kind: u16, value: u32) {
    attribute(out, kind, &value.to_be_bytes());
}

fn text(out: &mut Vec<u8>, kind: u16, value: &str) {
    let mut bytes = value.as_bytes().to_vec();
    bytes.push(0);
    attribute(out, kind, &bytes);
}

/// One element of a set: its key, cut into address, protocol and port, and its counter.
fn counted(element: &[u8], family: u8) -> Option<Counted> {
    const KEY: u16 = 1;
    const EXPRESSION: u16 = 7;
    let key = netlink::find(netlink::find(element, KEY)?, 1)?;
    let (address, rest) = if family == 2 {
        let (address, rest) = key.split_at_checked(4)?;
        (
            IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(address).ok()?)),
            rest,
        )
    } else {
        let (address, rest) = key.split_at_checked(16)?;
        (
            IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(address).ok()?)),
            rest,
        )
    };
    let protocol = match *rest.first()? {
        TCP => Transport::Tcp,
        UDP => Transport::Udp,
        _ => return None,
    };
    let port = u16::from_be_bytes(rest.get(4..6)?.try_into().ok()?);
    let counter = netlink::find(netlink::find(element, EXPRESSION)?, 2)?;
    let bytes_out = u64::from_be_bytes(netlink::find(counter, 1)?.try_into().ok()?);
    Some(Counted {
        protocol,
        address,
        port,
        bytes_out,
    })
}

#[cfg(test)]
mod tests;
