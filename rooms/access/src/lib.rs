//! **Question:** what may it reach?
//!
//! **In:** the texts of `fleet/` (TOML for things, Cedar for policies) and what is stored about
//! the population: each device's product and groups.
//! **Out:** [`Grants`]: per grant class and channel, who may publish and receive, with the policy
//! that decided; what a product's devices are expected to do ([`Behaviour`]); and [`Diagnostic`]s
//! that say at which line a fleet is wrong; whether its invariants hold ([`prove`]). What people,
//! tokens, services and devices may ask of the control plane ([`People`]).
//! **Standards:** Cedar (policy language), MQTT 5 section 4.7 (topics and filters), TOML 1.1,
//! JSON Schema 2020-12 (the part that [`Contract`] holds), RFC 8259 (JSON), RFC 8949 (CBOR).
//! **Refuses to know:** files, sessions, sockets, certificates, time, and a device's name beyond
//! "it owns this topic or it does not".
//!
//! Default is deny: a topic in no channel, a principal in no class and a request that no policy
//! permits are refused. Cedar decides when a fleet is compiled, never when a message comes. A
//! device that is contained has the plane's own channels at most, whatever policies say.

mod attestation;
mod behaviour;
mod blast;
mod builtin;
mod class;
mod command;
mod compile;
mod contract;
mod declared;
mod diagnostic;
mod difference;
mod explain;
mod fleet;
mod grants;
mod import;
mod invariant;
mod json_schema;
mod mud;
mod network;
mod nftables;
mod people;
mod policy;
mod prove;
mod reach;
mod replay;
mod segments;
mod subset;
mod template;
mod topics;
mod traffic;

pub use attestation::{Attestation, DEBUG_STATUS, ReferenceValue, TokenReferenceValue};
pub use behaviour::{Behaviour, Destination, DestinationId, Firmware, TlsVersion};
pub use blast::{BlastRadius, Touched};
pub use builtin::{
    DefenderTopic, certificate_topic, containment_topic, desired_topic, enroll_topic, report_topic,
    reported_topic,
};
pub use class::Facts;
pub use command::{Addressed, Unaddressable};
pub use contract::{Contract, Encoding, PayloadScratch, Violation};
pub use diagnostic::{Diagnostic, SourceFile};
pub use difference::{Difference, EXAMPLES_MAX, How, Principals, Shift, Thing, Unclassified};
pub use explain::Explanation;
pub use fleet::{
    Channel, ChannelId, ClientIds, Direction, Enrollment, FAN_OUT_PER_MINUTE, Fleet, Group,
    LdevidKey, Product, Service,
};
pub use grants::{Denied, Grants, Permitted, Publish, Subject, Subscription};
pub use import::{ImportNames, ImportRemark, Imported, import_aws, import_mosquitto};
pub use json_schema::{json_schemas, site_json_schema};
pub use mud::{
    Mud, SignatureRefusal, Unenforced, check_mud_signatures, verify_signature, write_mud,
};
pub use network::{
    Denial, Family, Flow, Host, Network, Passage, Permission, Ports, Remote, Rule, Site, SiteError,
    decide, protocol,
};
pub use nftables::{Ruleset, containment, nftables};
pub use people::{
    ActClass, Action, Asker, DeniedAct, People, PermittedAct, Proposed, Role, Roles, SecondPerson,
    Undecidable, WrongPolicies, is_second_needed, may_decide, people_policies, people_schema,
};
pub use policy::schema;
pub use prove::{Outcome, Proof, prove};
pub use reach::{Reach, Reached};
pub use replay::{Outcome as ReplayOutcome, Passes, Replay, ReplayLine, replay};
pub use segments::{Reaching, Right, Segment, SegmentMap};
pub use template::Template;
pub use traffic::{DeviceCount, Kind, Passed, Stream, Tally, TrafficDay, TrafficLedger};
