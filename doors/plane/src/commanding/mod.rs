//! Commands to devices: asked by people and services, held above a limit until another person lets
//! them go, on record before the first one leaves, and carried by the shards.

mod aim;
mod budget;
mod news;

pub use aim::{Aim, Asked, Target};
pub use budget::Budgets;
pub use news::News;

use crate::clock;
use crate::entries::{self, Actor};
use crate::events::About;
use crate::judge::signals::Told;
use crate::people::proposals;
use crate::plane::{Plane, digest, random};
use crate::shared::{Locked, OneAtATime, off_thread};
use crate::trouble::Trouble;
use detection::Feature;
use gateway::{CommandTo, Progress};
use model::{
    Attribution, CommandId, Delivery, DeliveryRefusal, DeliveryWait, DeviceId, Digest, Principal,
    ServiceId, Timestamp,
};
use std::sync::Arc;
use std::time::Duration;
use store::{
    Change, Command, CommandDelivery, CommandProgress, CommandState, CommandWrite, Direction,
    Guard, Receipt, Write,
};

/// Deliveries that are not over, of all commands: each lies in a shard's memory, some 300 bytes.
const UNDER_WAY_MAX: u64 = 200_000;
/// Rows read or written at once.
const ROWS_AT_ONCE: usize = 1000;
/// How long a command that is over can be looked at.
const KEPT_FOR: Duration = Duration::from_secs(30 * 86_400);

/// What a plane keeps of commands beside their rows.
#[derive(Default)]
pub struct Commanding {
    /// Held while a command is asked for, approved or taken back.
    asking: OneAtATime,
    budgets: Locked<Budgets>,
    /// How far commands came, as shards tell it.
    pub news: Arc<News>,
}

impl Commanding {
    /// A service sets what a device should be: to as many devices a minute as it may publish to.
    ///
    /// # Errors
    /// This one would be one more.
    pub fn check_reach(
        &self,
        plane: &Plane,
        service: &ServiceId,
        device: &DeviceId,
    ) -> Result<(), Trouble> {
        const CHANNEL: &str = "$fleetward/desired";
        let limit = (plane.grants().fleet().service(service))
            .map_or(access::FAN_OUT_PER_MINUTE, |one| one.fan_out_per_minute);
        let by = Actor::Service(service.clone()).to_string();
        let now = clock::now();
        let one = std::iter::once(device);
        if self
            .budgets
            .lock()
            .admit(&by, CHANNEL, limit, one, now, true)
        {
            return Ok(());
        }
        Err(Trouble::Later {
            code: "fan-out-exceeded",
            text: format!("{by} may set the state of {limit} devices a minute"),
            seconds: 60,
            too_often: true,
        })
    }
}

/// A command as it was accepted.
#[derive(Debug)]
pub struct Accepted {
    pub command: Command,
    /// `None`: it was asked for before, under the same key.
    pub receipt: Option<Receipt>,
}

/// What a dry run says.
#[derive(Debug)]
pub struct Preview {
    pub aim: Aim,
    pub needs_approval: bool,
    /// Devices a minute.
    pub fan_out_per_minute: u32,
}

/// Asks for a command. Durable first; then it goes out, or waits for a second person.
///
/// # Errors
/// What is wrong with it, who may not, or trouble of ours.
pub async fn ask(plane: &Arc<Plane>, asked: Asked, actor: &Actor) -> Result<Accepted, Trouble> {
    plane.granting_allowed()?;
    let _one_at_a_time = plane.commanding.asking.begin().await;
    let by = actor.to_string();
    let request = asked.digest();
    if let Some(command) = earlier(plane, &asked, &by, request).await? {
        let receipt = None;
        return Ok(Accepted { command, receipt });
    }
    let now = clock::now();
    let expires_at = asked.expires_at(now)?;
    let aim = aim::take(plane, &asked, actor).await?;
    check_room(plane, &aim).await?;
    let limit = aim.fan_out_per_minute;
    let is_within =
        (plane.commanding.budgets.lock()).admit(&by, &aim.channel, limit, aim.reached(), now, true);
    let state = match is_within {
        true => CommandState::Open,
        false => CommandState::Held,
    };
    let command = Command {
        id: CommandId::made(now, u16::from_be_bytes(random()?)),
        by,
        key: asked.key.clone(),
        request,
        channel: aim.channel.clone(),
        target: asked.target.to_string(),
        payload: asked.payload,
        asked_at: now,
        expires_at,
        state,
        decided_by: None,
    };
    let deliveries = rows(&aim, state, now);
    let act = entries::command_asked(actor, &command, &deliveries);
    let mut change = Change::new(Direction::Grant)
        .write(CommandWrite::Put {
            command: Box::new(command.clone()),
            deliveries: deliveries.clone(),
        })
        .entry(plane.leaf(&act)?);
    if state == CommandState::Held {
        proposals::check_room(plane, &command.by, now)?;
        let waits = proposals::of_command(&command, aim.reached().count())?;
        change = change.write(Write::PutProposal(waits));
    }
    let receipt = plane.commit(change).await?;
    tell_fan_out(plane, actor, aim.reached().count(), now);
    match state {
        CommandState::Open => hand_out(plane, &command, deliveries),
        _ => tracing::warn!(
            "{}: {} asked for {} device(s), more than {limit} a minute: it waits for a second person [operator must act]",
            command.id,
            command.by,
            aim.reached().count()
        ),
    }
    tell(plane, &command, state.name());
    let receipt = Some(receipt);
    Ok(Accepted { command, receipt })
}

/// What asking would do.
///
/// # Errors
/// As for [`ask`].
pub async fn preview(plane: &Arc<Plane>, asked: &Asked, actor: &Actor) -> Result<Preview, Trouble> {
    let now = clock::now();
    asked.expires_at(now)?;
    let aim = aim::take(plane, asked, actor).await?;
    let (by, limit) = (actor.to_string(), aim.fan_out_per_minute);
    let is_within = (plane.commanding.budgets.lock()).admit(
        &by,
        &aim.channel,
        limit,
        aim.reached(),
        now,
        false,
    );
    Ok(Preview {
        aim,
        needs_approval: !is_within,
        fan_out_per_minute: limit,
    })
}

/// Lets a held command go out, as another person decided: `decided` has their word, and is on record
/// together with this.
///
/// # Errors
/// It is not held, or the service that asked for it is revoked or may not tell it any more; trouble of
/// ours.
pub async fn release(
    plane: &Arc<Plane>,
    id: CommandId,
    actor: &Actor,
    decided: Change,
) -> Result<Command, Trouble> {
    plane.granting_allowed()?;
    let _one_at_a_time = plane.commanding.asking.begin().await;
    let mut command = known(plane, id).await?;
    if command.state != CommandState::Held {
        let state = command.state.name();
        let text = format!("{id} does not wait for anybody: it is {state}");
        return Err(Trouble::refused("command-not-held", text));
    }
    let held = held_deliveries(plane, id).await?;
    if let Actor::Service(service) = Actor::named(&command.by) {
        // A day may have passed, and whoever approves sees what is told, not what its grants are now.
        aim::still_permitted(plane, &service, &command.channel, &held)?;
    }
    let (by, at) = (actor.to_string(), clock::now());
    let act = entries::command_approved(at, actor, &command);
    let mut change = decided
        .write(CommandWrite::Approve {
            command: id,
            by: by.clone(),
            at,
        })
        .entry(plane.leaf(&act)?);
    if let Actor::Service(service) = Actor::named(&command.by) {
        change = change.guard(Guard::ServiceNotRevoked(service));
    }
    plane.commit(change).await?;
    command.state = CommandState::Open;
    command.decided_by = Some(by);
    let away = Delivery::Waiting(DeliveryWait::Away);
    let going = held.into_iter().map(|row| CommandDelivery {
        delivery: away,
        ..row
    });
    hand_out(plane, &command, going.collect());
    tell(plane, &command, "open");
    Ok(command)
}

/// What waits for a second person, all of it: one command is for some thousand devices at most.
async fn held_deliveries(
    plane: &Arc<Plane>,
    id: CommandId,
) -> Result<Vec<CommandDelivery>, Trouble> {
    let reading = Arc::clone(plane);
    let found = off_thread(move || {
        let mut held: Vec<CommandDelivery> = Vec::new();
        loop {
            let after = held.last().map(|row| &row.device);
            let mut page = reading
                .store
                .deliveries(id, Some("waiting"), after, ROWS_AT_ONCE)?;
            if page.is_empty() {
                return Ok::<_, store::ReadError>(held);
            }
            held.append(&mut page);
        }
    });
    Ok(found.await??)
}

/// Takes a command back from every device that was not sent it: in every shard first, then on record.
/// Returns it with the number of devices that will not have it.
///
/// # Errors
/// It is over; or it could not be recorded, and stays taken back all the same.
pub async fn cancel(
    plane: &Arc<Plane>,
    id: CommandId,
    reason: &str,
    actor: &Actor,
) -> Result<(Accepted, u32), Trouble> {
    let _one_at_a_time = plane.commanding.asking.begin().await;
    let mut command = known(plane, id).await?;
    if !matches!(command.state, CommandState::Held | CommandState::Open) {
        let state = command.state.name();
        let text = format!("{id} is {state} already");
        return Err(Trouble::refused("command-over", text));
    }
    let count = plane.shards().cancel_command(id).await;
    let at = clock::now();
    let by = actor.to_string();
    let act = entries::command_cancelled(at, actor, &command, reason, count);
    let mut change = Change::new(Direction::Withdraw)
        .write(CommandWrite::End {
            command: id,
            state: CommandState::Cancelled,
            by: by.clone(),
            at,
        })
        .entry(plane.leaf(&act)?);
    if command.state == CommandState::Held && command.expires_at > at {
        change = change.write(proposals::refusal_of_command(id, actor, at)?);
    }
    let receipt = Some(plane.commit_withdrawal(change).await?);
    command.state = CommandState::Cancelled;
    command.decided_by = Some(by);
    tell(plane, &command, "cancelled");
    Ok((Accepted { command, receipt }, count))
}

/// Takes up what was under way before a restart. Handed to the shards again, a command that was sent
/// and not acknowledged may come twice.
///
/// # Errors
/// The disk.
pub async fn resume(plane: &Arc<Plane>) -> Result<usize, Trouble> {
    let reading = Arc::clone(plane);
    let open = off_thread(move || {
        let mut open: Vec<(CommandId, CommandDelivery)> = Vec::new();
        (reading.store).for_each_open_delivery(|id, row| open.push((id, row)))?;
        let mut commands: Vec<(Command, Vec<CommandDelivery>)> = Vec::new();
        for (id, mut row) in open {
            if commands.last().is_none_or(|(command, _)| command.id != id) {
                commands.extend((reading.store.command(id)?).map(|it| (it, Vec::new())));
            }
            if row.delivery == Delivery::Sent {
                row.delivery = Delivery::Waiting(DeliveryWait::Away);
            }
            if let Some((command, rows)) = commands.last_mut()
                && command.id == id
            {
                rows.push(row);
            }
        }
        Ok::<_, store::ReadError>(commands)
    })
    .await??;
    let mut count = 0;
    for (command, rows) in open {
        count += rows.len();
        hand_out(plane, &command, rows);
    }
    Ok(count)
}

/// Records what shards told. What cannot be recorded is tried again.
///
/// # Errors
/// The store's.
pub async fn record(plane: &Plane) -> Result<(), Trouble> {
    loop {
        let news = plane.commanding.news.take(ROWS_AT_ONCE);
        if news.is_empty() {
            return Ok(());
        }
        let rows: Vec<CommandProgress> = (news.iter())
            .map(|((command, device), (delivery, at))| CommandProgress {
                command: *command,
                device: device.clone(),
                delivery: *delivery,
                at: *at,
            })
            .collect();
        let mut commands: Vec<CommandId> = rows.iter().map(|row| row.command).collect();
        let change = Change::new(Direction::Neutral).write(CommandWrite::Progress(rows));
        if let Err(trouble) = plane.commit(change).await {
            plane.commanding.news.put_back(news);
            return Err(trouble);
        }
        commands.dedup();
        for id in commands {
            let told = serde_json::json!({ "id": id.to_string(), "change": "progress" });
            plane.events.tell(About::Command, &told);
        }
    }
}

/// Ends what nobody approved in time, and forgets what is long over.
///
/// # Errors
/// The store's.
pub async fn lapse(plane: &Plane, now: Timestamp) -> Result<(), Trouble> {
    for command in plane.store.lapsed_commands(now)? {
        let end = CommandWrite::End {
            command,
            state: CommandState::Lapsed,
            by: Actor::Plane.to_string(),
            at: now,
        };
        plane
            .commit(Change::new(Direction::Neutral).write(end))
            .await?;
    }
    let expired_before = now.minus(KEPT_FOR);
    let forget = CommandWrite::Forget { expired_before };
    let change = Change::new(Direction::Neutral).write(forget);
    plane.commit(change).await.map(drop)
}

/// A command that is on record.
///
/// # Errors
/// There is none of this id.
pub async fn known(plane: &Arc<Plane>, id: CommandId) -> Result<Command, Trouble> {
    let reading = Arc::clone(plane);
    let found = off_thread(move || reading.store.command(id)).await??;
    found.ok_or_else(|| Trouble::Unknown {
        code: "command-unknown",
        text: format!("there is no {id}; commands are kept for 30 days after their time"),
    })
}

/// The same request under the same key is the command of the first time.
async fn earlier(
    plane: &Arc<Plane>,
    asked: &Asked,
    by: &str,
    request: Digest,
) -> Result<Option<Command>, Trouble> {
    let Some(key) = asked.key.clone() else {
        return Ok(None);
    };
    let (reading, by) = (Arc::clone(plane), by.to_owned());
    let found = off_thread(move || reading.store.command_by_key(&by, &key)).await??;
    match found {
        Some(command) if command.request != request => Err(Trouble::refused(
            "key-reused",
            format!(
                "this key was used for another command, {}; use a new key",
                command.id
            ),
        )),
        found => Ok(found),
    }
}

async fn check_room(plane: &Arc<Plane>, aim: &Aim) -> Result<(), Trouble> {
    let reading = Arc::clone(plane);
    let under_way = off_thread(move || reading.store.deliveries_under_way()).await??;
    if under_way + aim.reached().count() as u64 <= UNDER_WAY_MAX {
        return Ok(());
    }
    Err(Trouble::Later {
        code: "commands-full",
        text: format!(
            "{under_way} deliveries are under way, and {UNDER_WAY_MAX} at most are; cancel commands \
             or let them expire"
        ),
        seconds: 60,
        too_often: false,
    })
}

fn rows(aim: &Aim, state: CommandState, now: Timestamp) -> Vec<CommandDelivery> {
    let wait = match state {
        CommandState::Held => DeliveryWait::Approval,
        _ => DeliveryWait::Away,
    };
    (aim.devices.iter())
        .map(|(device, addressed)| {
            let (topic, response_topic, delivery) = match addressed {
                Ok(to) => (
                    to.topic.clone(),
                    to.response_topic.clone(),
                    Delivery::Waiting(wait),
                ),
                Err(refusal) => (String::new(), None, Delivery::Refused(*refusal)),
            };
            CommandDelivery {
                device: device.clone(),
                topic,
                response_topic,
                delivery,
                changed_at: now,
            }
        })
        .collect()
}

fn hand_out(plane: &Plane, command: &Command, deliveries: Vec<CommandDelivery>) {
    let shared = Arc::new(gateway::Command {
        id: command.id,
        payload: command.payload.clone().into(),
        expires_at: command.expires_at,
    });
    let registry = plane.trust().registry();
    let at = clock::now();
    let going = (deliveries.into_iter())
        .filter(|row| !matches!(row.delivery, Delivery::Refused(_)))
        .filter(|row| {
            // Since it was asked for: it cannot come any more, so nobody waits for it.
            let principal = Principal::Device(row.device.clone());
            let is_revoked = registry.principal_revocation(&principal).is_some();
            if is_revoked {
                let refused = Progress {
                    command: command.id,
                    device: row.device.clone(),
                    delivery: Delivery::Refused(DeliveryRefusal::Revoked),
                };
                plane.commanding.news.tell(refused, at);
            }
            !is_revoked
        })
        .map(|row| CommandTo {
            command: Arc::clone(&shared),
            device: row.device,
            topic: row.topic.into(),
            response_topic: row.response_topic.map(Into::into),
            delivery: row.delivery,
        });
    plane.shards().command(going);
}

/// To how many devices a service sends is watched by this way too.
fn tell_fan_out(plane: &Plane, actor: &Actor, devices: usize, now: Timestamp) {
    if let Actor::Service(service) = actor {
        plane.signals.tell(Told::seen(
            Principal::Service(service.clone()),
            Attribution::Proven,
            Feature::CommandFanOut {
                devices: devices as u64,
                interval: Duration::from_secs(60),
            },
            now,
        ));
    }
}

fn tell(plane: &Plane, command: &Command, change: &str) {
    let told = serde_json::json!({ "id": command.id.to_string(), "change": change });
    plane.events.tell(About::Command, &told);
}

/// What the log keeps of a list of devices.
pub fn digest_of_devices(deliveries: &[CommandDelivery]) -> Digest {
    let mut text = String::new();
    for row in deliveries {
        text.push_str(row.device.as_str());
        text.push('\n');
    }
    digest(text.as_bytes())
}
