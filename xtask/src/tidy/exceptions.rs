//! What the rules spare, each with its reason. Shorter is better: an exception that matches
//! nothing any more is a finding.

use super::Finding;

#[derive(Debug, Clone, Copy)]
pub struct Exception {
    /// The rule's name as findings print it.
    pub rule: &'static str,
    /// A file, or a folder when it ends in `/`.
    pub path: &'static str,
    /// Exactly what a finding quotes.
    pub what: &'static str,
    pub reason: &'static str,
}

pub const EXCEPTIONS: &[Exception] = &[
    Exception {
        rule: "room edges",
        path: "rooms/gateway/Cargo.toml",
        what: "gateway -> access",
        reason: "every packet asks a grant; a copy of the question would drift from the answer",
    },
    Exception {
        rule: "pure rooms: entropy",
        path: "rooms/identity/src/registry/table.rs",
        what: "RandomState",
        reason: "seeds hash tables so that nobody can choose names that collide; no answer depends on it",
    },
    Exception {
        rule: "pure rooms: signing",
        path: "rooms/identity/src/first_identity/tpm/credential.rs",
        what: "PrivateKey*",
        reason: "the ephemeral half of one key agreement with a TPM, out of random bytes that are handed in; it signs nothing",
    },
    Exception {
        rule: "concurrency in its place",
        path: "keeps/signer/src/lib.rs",
        what: "Mutex",
        reason: "two checkpoints signed at once could both pass the high-water mark; a CA made at run time joins the keys",
    },
    Exception {
        rule: "concurrency in its place",
        path: "keeps/signer/src/token.rs",
        what: "Mutex",
        reason: "a token's session takes one call at a time",
    },
    Exception {
        rule: "concurrency in its place",
        path: "keeps/store/src/reader.rs",
        what: "Mutex",
        reason: "a stack of idle read connections, held only to push or pop one",
    },
    Exception {
        rule: "concurrency in its place",
        path: "keeps/store/src/facts.rs",
        what: "Mutex",
        reason: "the one connection that writes observations, held for one batch",
    },
    Exception {
        rule: "concurrency in its place",
        path: "keeps/store/src/store.rs",
        what: "thread::Builder",
        reason: "starts the one writer thread, where the store opens",
    },
    Exception {
        rule: "concurrency in its place",
        path: "keeps/store/src/store.rs",
        what: "mpsc",
        reason: "a commit that waits is a submit whose answer comes through a channel of one",
    },
    Exception {
        rule: "concurrency in its place",
        path: "keeps/store/src/store.rs",
        what: "sync_channel",
        reason: "a commit that waits is a submit whose answer comes through a channel of one",
    },
    Exception {
        rule: "concurrency in its place",
        path: "doors/plane/src/certify/over_mqtt.rs",
        what: "mpsc",
        reason: "one bounded queue from the shards, which never wait for it",
    },
    Exception {
        rule: "concurrency in its place",
        path: "doors/plane/src/shared.rs",
        what: "ArcSwap*",
        reason: "the one file of the shell that may share, lock, swap or block: all else goes through it",
    },
    Exception {
        rule: "concurrency in its place",
        path: "doors/plane/src/shared.rs",
        what: "Mutex",
        reason: "the one file of the shell that may share, lock, swap or block: all else goes through it",
    },
    Exception {
        rule: "concurrency in its place",
        path: "doors/plane/src/shared.rs",
        what: "RwLock",
        reason: "the one file of the shell that may share, lock, swap or block: all else goes through it",
    },
    Exception {
        rule: "concurrency in its place",
        path: "doors/plane/src/shared.rs",
        what: "spawn_blocking",
        reason: "the one file of the shell that may share, lock, swap or block: all else goes through it",
    },
    Exception {
        rule: "concurrency in its place",
        path: "doors/plane/src/listen/http.rs",
        what: "tokio::spawn",
        reason: "one task a connection, bounded by the door's places",
    },
    Exception {
        rule: "concurrency in its place",
        path: "doors/plane/src/listen/websocket.rs",
        what: "tokio::spawn",
        reason: "waits until the answer to an upgrade is out, which its own request cannot",
    },
    Exception {
        rule: "concurrency in its place",
        path: "doors/plane/src/listen/local.rs",
        what: "tokio::spawn",
        reason: "one task a connection of the local user",
    },
    Exception {
        rule: "timers in their place",
        path: "doors/plane/src/listen/http.rs",
        what: "tokio::time",
        reason: "the limit of a handshake belongs to the handshake: nothing runs by itself",
    },
    Exception {
        rule: "HTTP in its place",
        path: "doors/plane/src/respond/notify/",
        what: "hyper",
        reason: "a message that leaves goes by HTTP to the one address in the configuration; its statuses are judged here",
    },
    Exception {
        rule: "HTTP in its place",
        path: "doors/plane/src/outward.rs",
        what: "hyper",
        reason: "what leaves goes by HTTP to an address in the configuration, and by this file",
    },
    Exception {
        rule: "HTTP in its place",
        path: "doors/plane/src/outward.rs",
        what: "hyper_util",
        reason: "what leaves goes by HTTP to an address in the configuration, and by this file",
    },
    Exception {
        rule: "timers in their place",
        path: "doors/plane/src/outward.rs",
        what: "tokio::time",
        reason: "how long an answer may take: nothing runs by itself",
    },
    Exception {
        rule: "sockets in their place",
        path: "doors/plane/src/outward.rs",
        what: "TcpStream",
        reason: "nobody knocks here: the plane goes out, to an address in the configuration",
    },
    Exception {
        rule: "HTTP in its place",
        path: "doors/plane/src/broker/",
        what: "hyper",
        reason: "a revocation is carried by a broker's own HTTP interface; its statuses are judged here",
    },
    Exception {
        rule: "sockets in their place",
        path: "doors/plane/src/doors_tests/stubs.rs",
        what: "TcpListener",
        reason: "a test whose stub of another's interface answers on loopback",
    },
    Exception {
        rule: "concurrency in its place",
        path: "doors/plane/src/doors_tests/stubs.rs",
        what: "mpsc",
        reason: "a test that waits for what its stub was asked",
    },
    Exception {
        rule: "concurrency in its place",
        path: "doors/plane/src/doors_tests/stubs.rs",
        what: "thread::spawn",
        reason: "a test whose stub answers beside it",
    },
    Exception {
        rule: "concurrency in its place",
        path: "doors/plane/src/doors_tests/stubs.rs",
        what: "tokio::spawn",
        reason: "a test that runs one task of the plane beside itself",
    },
    Exception {
        rule: "timers in their place",
        path: "doors/plane/src/doors_tests/stubs.rs",
        what: "tokio::time",
        reason: "the longest that a test waits",
    },
    Exception {
        rule: "concurrency in its place",
        path: "doors/plane/src/doors_tests/brokers.rs",
        what: "thread::spawn",
        reason: "clients that come back as fast as they can, each for itself",
    },
    Exception {
        rule: "sockets in their place",
        path: "doors/plane/src/doors_tests/brokers.rs",
        what: "TcpListener",
        reason: "a test that starts a broker asks for a free port",
    },
    Exception {
        rule: "sockets in their place",
        path: "doors/plane/src/doors_tests/brokers.rs",
        what: "TcpStream",
        reason: "a test that starts a broker waits until it answers",
    },
    Exception {
        rule: "concurrency in its place",
        path: "doors/plane/src/doors_tests/brokers.rs",
        what: "tokio::spawn",
        reason: "a test that runs one task of the plane beside itself",
    },
    Exception {
        rule: "sockets in their place",
        path: "doors/plane/src/broker/link.rs",
        what: "TcpStream",
        reason: "nobody knocks here: the plane goes out, to the one broker in the configuration",
    },
    Exception {
        rule: "concurrency in its place",
        path: "doors/plane/src/listen/challenges.rs",
        what: "tokio::spawn",
        reason: "one task a connection, bounded by the door's places",
    },
    Exception {
        rule: "timers in their place",
        path: "doors/plane/src/listen/challenges.rs",
        what: "tokio::time",
        reason: "the limit of a connection that comes for one answer: nothing runs by itself",
    },
    Exception {
        rule: "HTTP in its place",
        path: "doors/plane/src/served/acme/requests.rs",
        what: "hyper",
        reason: "an ACME CA is asked by HTTP; what it answers is its protocol, not ours",
    },
    Exception {
        rule: "HTTP in its place",
        path: "doors/plane/src/served/acme/requests.rs",
        what: "hyper_util",
        reason: "an ACME CA is asked by HTTP; what it answers is its protocol, not ours",
    },
    Exception {
        rule: "sockets in their place",
        path: "doors/plane/src/served/acme/requests.rs",
        what: "TcpStream",
        reason: "nobody knocks here: the plane goes out, to the one CA in the configuration",
    },
    Exception {
        rule: "timers in their place",
        path: "doors/plane/src/served/acme/requests.rs",
        what: "tokio::time",
        reason: "how long an answer may take: nothing runs by itself",
    },
    Exception {
        rule: "size of functions",
        path: "rooms/gateway/src/signal.rs",
        what: "fmt",
        reason: "a table: one sentence a signal, read side by side",
    },
    Exception {
        rule: "concurrency in its place",
        path: "doors/plane/src/judge/signals.rs",
        what: "mpsc",
        reason: "the one queue from doors and shards to the judge: bounded, and telling never waits",
    },
    Exception {
        rule: "concurrency in its place",
        path: "doors/plane/src/judge/signals.rs",
        what: "Atomic*",
        reason: "counts what did not fit that queue and the bytes that wait in it; decides nothing else",
    },
    Exception {
        rule: "timers in their place",
        path: "doors/plane/src/shards/telling.rs",
        what: "interval",
        reason: "a field of what was observed: how long was counted; no timer",
    },
    Exception {
        rule: "timers in their place",
        path: "doors/plane/src/commanding/mod.rs",
        what: "interval",
        reason: "a field of what was observed: how long was counted; no timer",
    },
    Exception {
        rule: "timers in their place",
        path: "doors/plane/src/api/detection.rs",
        what: "interval",
        reason: "a field of what was observed: how long was counted; no timer",
    },
    Exception {
        rule: "room edges",
        path: "doors/plane/Cargo.toml",
        what: "plane -> sim",
        reason: "tests only: somebody real at the doors, who knows nothing but the doors",
    },
    Exception {
        rule: "timers in their place",
        path: "doors/plane/src/listen/http.rs",
        what: "sleep",
        reason: "how long a connection may stay, and a breath when the system gives no more files",
    },
    Exception {
        rule: "concurrency in its place",
        path: "doors/agent/src/signals/dns.rs",
        what: "thread::Builder",
        reason: "the device's resolver answers while the agent itself waits for a name",
    },
    Exception {
        rule: "concurrency in its place",
        path: "doors/agent/src/signals/dns.rs",
        what: "Mutex",
        reason: "counts of that one thread, held to add or to take them",
    },
    Exception {
        rule: "sockets in their place",
        path: "doors/fleetward/src/demo/console.rs",
        what: "TcpListener",
        reason: "opened in the host's network before the demo leaves it; the plane inherits it and accepts",
    },
    Exception {
        rule: "timers in their place",
        path: "doors/plane/src/shards/shard/alarm.rs",
        what: "timerfd_create",
        reason: "it is the timeout of a shard's own wait: nothing runs by it but the loop that waits",
    },
];

impl Exception {
    pub fn covers(&self, finding: &Finding) -> bool {
        self.rule == finding.rule
            && self.what == finding.what
            && if self.path.ends_with('/') {
                finding.path.starts_with(self.path)
            } else {
                finding.path == self.path
            }
    }

    pub fn stale(&self) -> Finding {
        Finding {
            rule: "stale exception",
            path: self.path.to_owned(),
            line: 0,
            what: format!("{}: {}", self.rule, self.what),
            reason: "an exception nobody needs would cover the next mistake",
            fix: format!(
                "remove it from xtask/src/tidy/exceptions.rs (it said: {})",
                self.reason
            ),
        }
    }
}
