//! Random fleets and invariants: what our exact set analysis proves or refutes must be what Cedar's
//! symbolic compiler does, whose encoding is verified in Lean, with cvc5 as its solver. It knows nothing of
//! ours: each end of a path is one question about a whole set of policies, over every entity store that
//! there can be.

use access::{Fleet, Outcome, SourceFile, prove};
use cedar_policy::{EntityTypeName, EntityUid, PolicySet, RequestEnv, Schema};
use cedar_policy_symcc::solver::LocalSolver;
use cedar_policy_symcc::{CedarSymCompiler, CompiledPolicySet};
use std::error::Error;
use std::fmt::Write as _;
use std::process::Command;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const FLEETS: usize = 60;
const POLICIES: usize = 5;
/// With the group each is in.
const GROUPS: [(&str, Option<&str>); 3] = [("g0", None), ("g1", Some("g0")), ("g2", None)];
const PRODUCTS: [&str; 2] = ["p0", "p1"];
/// With the groups each is in, those above them too.
const SERVICES: [(&str, &[&str]); 2] = [("s0", &["g1", "g0"]), ("s1", &[])];
const ASSURANCES: [&str; 4] = ["contraindicated", "identified", "hardware-held", "attested"];
const CHANNELS: [Channel; 3] = [
    Channel {
        id: "up",
        topic: "up/{device}",
        direction: "from-device",
    },
    Channel {
        id: "down",
        topic: "down/{device}",
        direction: "to-device",
    },
    Channel {
        id: "all",
        topic: "all/{any}",
        direction: "to-device",
    },
];
/// With the products that declare each.
const DESTINATIONS: [(&str, &[&str]); 2] = [("d0", &["p0"]), ("d1", &[])];

struct Channel {
    id: &'static str,
    topic: &'static str,
    direction: &'static str,
}

#[derive(Clone, Copy)]
enum Who {
    Device,
    Service(usize),
}

/// A party of an invariant.
#[derive(Clone, Copy)]
enum Party {
    Devices,
    Services,
    Product(&'static str),
    Group(&'static str),
    Service(usize),
}

fn main() -> Result<()> {
    let solver = std::env::var("CVC5").unwrap_or_else(|_| "cvc5".into());
    let version = Command::new(&solver).arg("--version").output();
    let Ok(version) = version else {
        println!("skipped: {solver} is not installed");
        return Ok(());
    };
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    println!("{}", version.lines().next().unwrap_or_default());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(compare())
}

async fn compare() -> Result<()> {
    let mut dice = Dice(26);
    let mut oracle = Oracle {
        schema: Schema::from_cedarschema_str(access::schema())?.0,
        compiler: CedarSymCompiler::new(LocalSolver::cvc5()?)?,
        questions: 0,
    };
    let (mut held, mut broken) = (0, 0);
    for _ in 0..FLEETS {
        let policies = policies(&mut dice);
        for turn in 0..4 {
            let (invariant, expected) = match turn {
                0 => {
                    let devices = Party::Devices;
                    let path = oracle.path(&policies, devices, devices).await?;
                    (no_path(devices, devices), !path)
                }
                1 => {
                    let (from, to) = (dice.party(), dice.party());
                    (no_path(from, to), !oracle.path(&policies, from, to).await?)
                }
                2 => {
                    let (channel, only) = (dice.one_of(&CHANNELS), dice.party());
                    let (key, action) =
                        *dice.one_of(&[("publish_only", "publish"), ("receive_only", "receive")]);
                    let outsider = oracle.outsider(&policies, channel, action, only).await?;
                    let text = format!(
                        "[x]\nchannels = [\"{}\"]\n{key} = [\"{}\"]\n",
                        channel.id,
                        only.name()
                    );
                    (text, !outsider)
                }
                _ => {
                    let (destination, only) = (dice.one_of(&DESTINATIONS), dice.party());
                    let outsider = oracle.connecting(&policies, destination, only).await?;
                    let text = format!(
                        "[x]\ndestinations = [\"{}\"]\nconnect_only = [\"{}\"]\n",
                        destination.0,
                        only.name()
                    );
                    (text, !outsider)
                }
            };
            let fleet = read(&policies, &invariant).map_err(|wrong| format!("{wrong:?}"))?;
            let ours = prove(&fleet).remove(0).outcome;
            let holds = match &ours {
                Outcome::Holds => true,
                Outcome::Broken(_) => false,
                Outcome::Undecided(why) => return Err(why.clone().into()),
            };
            if holds != expected {
                return Err(format!("{ours:?}, of\n{invariant}\n{policies}").into());
            }
            if holds { held += 1 } else { broken += 1 }
        }
    }
    println!(
        "{held} invariants hold and {broken} are broken, alike by set analysis and by {} questions to \
         the solver",
        oracle.questions
    );
    if held < 20 || broken < 20 {
        return Err("the random fleets say too little".into());
    }
    Ok(())
}

struct Oracle {
    schema: Schema,
    compiler: CedarSymCompiler<LocalSolver>,
    questions: usize,
}

impl Oracle {
    /// Is there a message that somebody in `from` may send and somebody else in `to` may receive? The two
    /// share nothing but the channel, and that a topic's one owner is not both.
    async fn path(&mut self, policies: &str, from: Party, to: Party) -> Result<bool> {
        for channel in &CHANNELS {
            let senders = self.relations(policies, channel, "publish", from).await?;
            let receivers = self.relations(policies, channel, "receive", to).await?;
            let other_than = |own: &bool| receivers.iter().any(|theirs| !(*own && *theirs));
            if senders.iter().any(other_than) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// For which topics somebody of `party` may: `true` for its own, `false` for others'.
    async fn relations(
        &mut self,
        policies: &str,
        channel: &Channel,
        action: &str,
        party: Party,
    ) -> Result<Vec<bool>> {
        let mut found = Vec::new();
        for who in everybody() {
            for own in relations(who, channel) {
                let conditions = [channel.condition(who, own), who.condition(), party.of(who)];
                if self
                    .is_possible(policies, who, action, "Channel", &conditions)
                    .await?
                {
                    found.push(own);
                }
            }
        }
        Ok(found)
    }

    async fn outsider(
        &mut self,
        policies: &str,
        channel: &Channel,
        action: &str,
        only: Party,
    ) -> Result<bool> {
        for who in everybody() {
            for own in relations(who, channel) {
                let outside = format!("!({})", only.of(who));
                let conditions = [channel.condition(who, own), who.condition(), outside];
                if self
                    .is_possible(policies, who, action, "Channel", &conditions)
                    .await?
                {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    async fn connecting(
        &mut self,
        policies: &str,
        (id, declared_by): &(&str, &[&str]),
        only: Party,
    ) -> Result<bool> {
        let who = Who::Device;
        let declares: Vec<String> = (declared_by.iter())
            .map(|product| format!("principal in Product::\"{product}\""))
            .collect();
        let declares = match declares.as_slice() {
            [] => "false".to_owned(),
            some => some.join(" || "),
        };
        for (owner, is_so) in [("==", declares.clone()), ("!=", format!("!({declares})"))] {
            let conditions = [
                format!(
                    "resource == Destination::\"{id}\" && resource.direction == \"from-device\" && \
                     resource.owner {owner} principal"
                ),
                format!("({is_so})"),
                who.condition(),
                format!("!({})", only.of(who)),
            ];
            if self
                .is_possible(policies, who, "connect", "Destination", &conditions)
                .await?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether the policies allow any request of this kind that meets the conditions.
    async fn is_possible(
        &mut self,
        policies: &str,
        who: Who,
        action: &str,
        resource: &str,
        conditions: &[String],
    ) -> Result<bool> {
        self.questions += 1;
        let within = conditions.join(" && ");
        let text = format!(
            "{policies}@id(\"within\") forbid (principal, action, resource) unless {{ {within} }};\n"
        );
        let set: PolicySet = text.parse().map_err(|error| format!("{error}\n{text}"))?;
        let kind = match who {
            Who::Device => "Device",
            Who::Service(_) => "Service",
        };
        let environment = RequestEnv::new(
            kind.parse::<EntityTypeName>()?,
            format!("Action::\"{action}\"").parse::<EntityUid>()?,
            resource.parse::<EntityTypeName>()?,
        );
        let compiled = CompiledPolicySet::compile(&set, &environment, &self.schema)
            .map_err(|error| format!("{error}\n{text}"))?;
        let never = self.compiler.check_always_denies_opt(&compiled).await?;
        Ok(!never)
    }
}

fn everybody() -> impl Iterator<Item = Who> {
    std::iter::once(Who::Device).chain((0..SERVICES.len()).map(Who::Service))
}

/// Its own topics, others', or both.
fn relations(who: Who, channel: &Channel) -> Vec<bool> {
    match who {
        Who::Device if channel.topic.contains("{device}") => vec![false, true],
        _ => vec![false],
    }
}

impl Channel {
    fn condition(&self, who: Who, own: bool) -> String {
        let mut text = format!(
            "resource == Channel::\"{}\" && resource.direction == \"{}\"",
            self.id, self.direction
        );
        if matches!(who, Who::Device) {
            let relation = if own { "==" } else { "!=" };
            let _ = write!(text, " && resource.owner {relation} principal");
        }
        text
    }
}

impl Who {
    /// What any device of the fleet is, and what this service is.
    fn condition(self) -> String {
        match self {
            Self::Device => {
                let only = |one: &&str| {
                    let others: String = (PRODUCTS.iter())
                        .filter(|other| *other != one)
                        .map(|other| format!(" && !(principal in Product::\"{other}\")"))
                        .collect();
                    format!("(principal in Product::\"{one}\"{others})")
                };
                let products: Vec<String> = PRODUCTS.iter().map(only).collect();
                let assurances: Vec<String> = (ASSURANCES.iter())
                    .map(|name| format!("principal.assurance == \"{name}\""))
                    .collect();
                let mut text = format!(
                    "({}) && ({})",
                    products.join(" || "),
                    assurances.join(" || ")
                );
                for (group, above) in GROUPS {
                    if let Some(above) = above {
                        let _ = write!(
                            text,
                            " && (!(principal in Group::\"{group}\") || principal in Group::\"{above}\")"
                        );
                    }
                }
                text
            }
            Self::Service(number) => {
                let (id, within) = SERVICES[number];
                let mut text = format!("principal == Service::\"{id}\"");
                for (group, _) in GROUPS {
                    let not = if within.contains(&group) { "" } else { "!" };
                    let _ = write!(text, " && {not}(principal in Group::\"{group}\")");
                }
                text
            }
        }
    }
}

impl Party {
    fn name(self) -> String {
        match self {
            Self::Devices => "devices".into(),
            Self::Services => "services".into(),
            Self::Product(id) => format!("product/{id}"),
            Self::Group(id) => format!("group/{id}"),
            Self::Service(number) => format!("service/{}", SERVICES[number].0),
        }
    }

    /// As a condition on whoever it is.
    fn of(self, who: Who) -> String {
        match (self, who) {
            (Self::Devices, Who::Device) | (Self::Services, Who::Service(_)) => "true".into(),
            (Self::Product(id), Who::Device) => format!("principal in Product::\"{id}\""),
            (Self::Group(id), _) => format!("principal in Group::\"{id}\""),
            (Self::Service(one), Who::Service(other)) => (one == other).to_string(),
            _ => "false".into(),
        }
    }
}

fn no_path(from: Party, to: Party) -> String {
    format!(
        "[x]\nfrom = [\"{}\"]\nto = [\"{}\"]\n",
        from.name(),
        to.name()
    )
}

fn read(policies: &str, invariant: &str) -> std::result::Result<Fleet, Vec<access::Diagnostic>> {
    let groups: String = (GROUPS.iter())
        .map(|(id, above)| {
            let within = above.map(|above| format!("in = [\"{above}\"]\n"));
            format!("[groups.{id}]\n{}", within.unwrap_or_default())
        })
        .collect();
    let products: String = (PRODUCTS.iter())
        .map(|product| {
            let declares = DESTINATIONS.iter().filter(|(_, by)| by.contains(product));
            let ids: Vec<String> = declares.map(|(id, _)| format!("\"{id}\"")).collect();
            format!(
                "[{product}.behaviour]\ndestinations = [{}]\n",
                ids.join(", ")
            )
        })
        .collect();
    // The nearest group alone: those above come with it.
    let services: String = (SERVICES.iter())
        .map(|(id, within)| {
            let within: Vec<String> = within
                .iter()
                .take(1)
                .map(|id| format!("\"{id}\""))
                .collect();
            format!("[{id}]\ngroups = [{}]\n", within.join(", "))
        })
        .collect();
    let channels: String = (CHANNELS.iter())
        .map(|channel| {
            let Channel {
                id,
                topic,
                direction,
            } = channel;
            format!(
                "[{id}]\ntopic = \"{topic}\"\ndirection = \"{direction}\"\npayload_bytes_max = 1\n"
            )
        })
        .collect();
    let destinations: String = (DESTINATIONS.iter())
        .map(|(id, _)| format!("[{id}]\nhost = \"{id}.example.net\"\nports = [443]\n"))
        .collect();
    let files = [
        ("fleet.toml", format!("name = \"random\"\n{groups}")),
        ("products/p.toml", products),
        ("services/s.toml", services),
        ("channels/c.toml", channels),
        ("destinations/d.toml", destinations),
        ("policies/p.cedar", policies.to_owned()),
        ("invariants.toml", invariant.to_owned()),
    ];
    Fleet::read(&files.map(|(path, text)| SourceFile {
        path: path.into(),
        text,
    }))
}

/// So many that the fleet takes.
fn policies(dice: &mut Dice) -> String {
    let mut text = String::new();
    let mut number = 0;
    while number < POLICIES {
        let effect = *dice.one_of(&["permit", "permit", "permit", "forbid"]);
        let scope = dice.scope();
        let action = dice.one_of(&[
            "action",
            "action == Action::\"publish\"",
            "action == Action::\"receive\"",
            "action == Action::\"connect\"",
        ]);
        let when = dice.condition(2);
        let one = format!(
            "@id(\"p{number}\") {effect} ({scope}, {action}, resource) when {{ {when} }};\n"
        );
        if read(&one, "").is_ok() {
            text += &one;
            number += 1;
        }
    }
    text
}

/// SplitMix64: the same fleets in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % sides as u64).unwrap_or(0)
    }

    fn one_of<'t, T>(&mut self, all: &'t [T]) -> &'t T {
        &all[self.roll(all.len())]
    }

    fn party(&mut self) -> Party {
        match self.roll(6) {
            0 => Party::Services,
            1 => Party::Service(self.roll(SERVICES.len())),
            2 => Party::Product(PRODUCTS[self.roll(PRODUCTS.len())]),
            3 | 4 => Party::Group(GROUPS[self.roll(GROUPS.len())].0),
            _ => Party::Devices,
        }
    }

    fn scope(&mut self) -> String {
        match self.roll(6) {
            0 => "principal".into(),
            1 => "principal is Service".into(),
            2 => format!("principal in Group::\"{}\"", self.one_of(&GROUPS).0),
            3 => format!(
                "principal is Device in Product::\"{}\"",
                self.one_of(&PRODUCTS)
            ),
            _ => "principal is Device".into(),
        }
    }

    fn condition(&mut self, depth: usize) -> String {
        match self.roll(if depth == 0 { 8 } else { 11 }) {
            0 | 1 => "resource.owner == principal".into(),
            2 => "resource.direction == \"from-device\"".into(),
            3 => format!("principal in Group::\"{}\"", self.one_of(&GROUPS).0),
            4 => format!("principal in Product::\"{}\"", self.one_of(&PRODUCTS)),
            5 => format!(
                "principal is Device && principal.assurance == \"{}\"",
                self.one_of(&ASSURANCES)
            ),
            6 => format!(
                "resource in [Channel::\"{}\", Channel::\"{}\"]",
                self.one_of(&CHANNELS).id,
                self.one_of(&CHANNELS).id
            ),
            7 => format!("principal == Service::\"{}\"", self.one_of(&SERVICES).0),
            8 => format!("!({})", self.condition(depth - 1)),
            9 => format!(
                "({}) && ({})",
                self.condition(depth - 1),
                self.condition(depth - 1)
            ),
            _ => format!(
                "({}) || ({})",
                self.condition(depth - 1),
                self.condition(depth - 1)
            ),
        }
    }
}
