//! What happens, act by act: a fleet at work, a camera taken over, seen, cut off, revoked; another
//! one whose agent is killed first; the plane killed and started again; the proof.

use super::cast::{self, Member, Observing};
use super::console::Console;
use super::process::{self, PlaneProcess, Scratch, own_program};
use super::report::{Isolation, Report};
use super::stage::Stage;
use super::telling::{Telling, Voice};
use super::watch::{Case, Watch};
use super::{Demo, fleet};
use crate::client::Ask;
use anyhow::{Context, bail};
use audit::Vkey;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use serde_json::{Value, json};
use sim::hearing::Hearing;
use sim::intruder::{self, End, Files, Line};
use sim::random::Random;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);
const BEAT: Duration = Duration::from_millis(40);
/// Between two looks when the story is told.
const CALM: Duration = Duration::from_millis(250);
/// How long the fleet is watched at work before it is attacked.
const AT_WORK: Duration = Duration::from_secs(5);
const VOLUME_BYTES: u64 = 24_000_000;
const DNS_QUERIES: u32 = 600;
const REPLAYED: u64 = 5;

/// Runs the story; the exit status says whether every promise held.
///
/// # Errors
/// The demo itself could not go on, or was interrupted.
pub fn run(demo: &Demo) -> anyhow::Result<ExitCode> {
    let telling = Telling::begin();
    cast::agent_program()?;
    // Before the namespaces, in which another user's folder may be out of reach.
    let mut file = demo.report.as_deref().map(create).transpose()?;
    let scratch = Scratch::make(demo.keep)?;
    let console = Console::open()?;
    let browser = demo.open.then(browser).transpose()?;
    let interrupts = Interrupts::take()?;
    let stage = Stage::set(!demo.without_namespaces)?;

    let mut story = Story::begin(demo, stage, &scratch, console, telling, interrupts)?;
    if let Some(browser) = browser {
        story.open(browser)?;
    }
    story.fleet_to_work()?;
    story.first_act()?;
    story.second_act()?;
    story.kill_the_plane()?;
    let report = if demo.headless {
        story.end()?
    } else {
        story.stay()?
    };
    if let Some(file) = &mut file {
        writeln!(file, "{}", report.to_json()?)?;
    }
    Ok(if report.broken().is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn create(path: &Path) -> anyhow::Result<File> {
    File::create(path).with_context(|| format!("{} cannot be written", path.display()))
}

/// Waits in the host's network for the console's address, which is known only later.
fn browser() -> anyhow::Result<ChildStdin> {
    Command::new("sh")
        .args([
            "-c",
            "read -r link && exec xdg-open \"$link\" >/dev/null 2>&1",
        ])
        .stdin(Stdio::piped())
        .spawn()?
        .stdin
        .context("no standard input")
}

/// Ctrl-C and SIGTERM, looked at between two beats, so that everything is put away.
struct Interrupts(SignalFd);

impl Interrupts {
    fn take() -> anyhow::Result<Self> {
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGINT);
        signals.add(Signal::SIGTERM);
        signals.thread_block()?;
        Ok(Self(SignalFd::with_flags(
            &signals,
            SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC,
        )?))
    }

    fn came(&mut self) -> anyhow::Result<bool> {
        Ok(self.0.read_signal()?.is_some())
    }
}

/// An intruder at work, and how far its account was read.
struct Attack {
    victim: usize,
    child: Child,
    account: PathBuf,
    lines: usize,
    first_deed: Option<u64>,
    end: Option<End>,
}

impl Drop for Attack {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Story<'a> {
    demo: &'a Demo,
    scratch: &'a Scratch,
    stage: Stage,
    console: Console,
    telling: Telling,
    interrupts: Interrupts,
    plane: PlaneProcess,
    doors: (SocketAddr, SocketAddr),
    key: Vkey,
    roots: PathBuf,
    members: Vec<Member>,
    // Ended before the plane is: fields are dropped in their order.
    hearing: Option<Hearing>,
    observing: Observing,
    watch: Watch,
    /// Wires that were cut on the bridge.
    cut: BTreeSet<String>,
    victims: Vec<usize>,
    ends: Vec<End>,
    looked_at: Instant,
    report: Report,
}

impl<'a> Story<'a> {
    /// A plane from an empty folder, the fleet's files, the observer.
    fn begin(
        demo: &'a Demo,
        stage: Stage,
        scratch: &'a Scratch,
        console: Console,
        telling: Telling,
        interrupts: Interrupts,
    ) -> anyhow::Result<Self> {
        let isolation = isolation(&stage);
        telling.tell(Voice::Stage, &told(&isolation));
        let place = cast::place_of_plane(&stage);
        let mut plane = PlaneProcess::start(scratch.path(), &place, Some(&console))?;
        let key = plane.log_key()?;
        let link = plane.sign_in_link(scratch.path())?;
        let address = link.split('#').next().unwrap_or_default().to_owned();
        telling.tell(Voice::Stage, &format!("a plane; its console: {link}"));
        let roots = scratch.path().join("roots.pem");
        std::fs::write(&roots, plane.roots_pem()?)?;
        let (members, factory, list) = cast::make_members(scratch.path())?;
        let files = fleet::files();
        plane.register(cast::MANUFACTURER, &factory.certificate_pem(), list, &files)?;
        let observing = cast::start_observer(&stage, &mut plane, &members, scratch.path(), &roots)?;
        let hearing = cast::start_hearing(&mut plane)?;
        Ok(Self {
            report: Report {
                isolation,
                console: address,
                devices: members.len(),
                durability: process::DURABILITY,
                seed: demo.seed,
                incident_within_s: demo.incident_within,
                staged: STAGED.to_vec(),
                ..Report::default()
            },
            doors: plane.bound(),
            demo,
            scratch,
            stage,
            console,
            telling,
            interrupts,
            plane,
            key,
            roots,
            members,
            hearing: Some(hearing),
            observing,
            watch: Watch::default(),
            cut: BTreeSet::new(),
            victims: Vec::new(),
            ends: Vec::new(),
            looked_at: Instant::now(),
        })
    }

    fn open(&mut self, mut browser: ChildStdin) -> anyhow::Result<()> {
        let link = self.plane.sign_in_link(self.scratch.path())?;
        writeln!(browser, "{link}")?;
        Ok(())
    }

    fn tell(&self, voice: Voice, text: &str) {
        self.telling.tell(voice, text);
    }

    /// Every agent enrolls and speaks; what they do is as declared.
    fn fleet_to_work(&mut self) -> anyhow::Result<()> {
        let resolver = self.observing.resolver;
        for member in &mut self.members {
            cast::start_agent(&self.stage, member, self.doors, &self.roots, resolver)?;
        }
        self.tell(
            Voice::Stage,
            "twelve agents started; each makes its key and enrolls",
        );
        let everybody: BTreeSet<usize> = (0..self.members.len()).collect();
        self.wait("every agent to connect", |story| {
            Ok(story.connected()?.len() == everybody.len())
        })?;
        self.wait("every device to be heard", |story| {
            Ok(story.heard_of(&everybody))
        })?;
        self.report.enrolled = self.connected()?.len();
        self.tell(
            Voice::Stage,
            "all twelve are enrolled and heard: 5 cameras, 4 locks, 3 thermostats",
        );
        for line in STAGED {
            self.tell(Voice::Stage, line);
        }
        let until = Instant::now() + AT_WORK;
        self.wait("the fleet at work", |_| Ok(Instant::now() > until))
    }

    /// The story itself: a camera is taken over while its agent still reports.
    fn first_act(&mut self) -> anyhow::Result<()> {
        let victim = self.pick();
        let before = self.connected()?;
        let attack = self.attack(victim, false)?;
        let (case, attack) = self.follow(attack)?;
        let began = attack.first_deed.unwrap_or_default();
        let since = |later: Option<u64>, earlier: u64| later.map(|at| at.saturating_sub(earlier));
        self.report.hijack_to_alert_ms = since(case.first_alert, began);
        if let (Some(alert), Some(contained)) = (case.first_alert, case.contained) {
            self.report.alert_to_quarantine_ms = Some(contained.saturating_sub(alert));
        }
        self.report.deviations = case.kinds.clone();
        let end = attack.end.clone().unwrap_or_default();
        if let Some(contained) = case.contained {
            self.report.quarantine_to_last_accepted_ms = since(end.last_accepted, contained);
        }
        if let Some(revoked) = case.revoked {
            self.report.revoke_to_last_accepted_ms = since(end.last_accepted, revoked);
            self.report.revoke_to_closed_ms = since(end.closed, revoked);
        }
        self.ends.push(end);
        self.report.others = self.others().count();
        self.count_disturbed(&before)
    }

    /// Again, but the agent dies first and its old reports say that all is well.
    fn second_act(&mut self) -> anyhow::Result<()> {
        let victim = self.pick();
        let name = self.name(victim);
        self.tell(
            Voice::Stage,
            &format!("once more, at {name}: the agent is killed first, its old reports replayed"),
        );
        let before = self.connected()?;
        let attack = self.attack(victim, true)?;
        let (case, attack) = self.follow(attack)?;
        self.report.incident_with_agent_dead = case.incident.is_some() && case.contained.is_some();
        self.ends.push(attack.end.clone().unwrap_or_default());
        let others: BTreeSet<&str> = self.others().collect();
        let harmed = self.watch.contained().filter(|name| others.contains(name));
        self.report.others_contained = harmed.count() as u64;
        self.count_disturbed(&before)
    }

    /// Compares the others' sessions with those that stood before.
    fn count_disturbed(&mut self, before: &BTreeMap<String, String>) -> anyhow::Result<()> {
        let after = self.connected()?;
        let disturbed = self
            .others()
            .filter(|name| before.get(*name) != after.get(*name));
        let disturbed = disturbed.count();
        self.report.others_disconnected += disturbed as u64;
        let others = self.others().count();
        let text = format!("{disturbed} of the {others} others lost their session");
        self.tell(Voice::Stage, &text);
        Ok(())
    }

    /// One camera that was not attacked yet.
    fn pick(&mut self) -> usize {
        let mut cameras: Vec<usize> = self
            .members
            .iter()
            .enumerate()
            .filter(|(index, one)| one.product == "camera" && !self.victims.contains(index))
            .map(|(index, _)| index)
            .collect();
        Random::new(self.demo.seed)
            .part(self.victims.len() as u64)
            .shuffle(&mut cameras);
        let victim = cameras.first().copied().unwrap_or_default();
        self.victims.push(victim);
        victim
    }

    fn attack(&mut self, victim: usize, agent_first: bool) -> anyhow::Result<Attack> {
        let plan = self.plan(victim, agent_first)?;
        let folder = self.scratch.path().join("intruder").join(&plan.device);
        std::fs::create_dir_all(&folder)?;
        let (file, account) = (folder.join("plan.json"), folder.join("account.jsonl"));
        std::fs::write(&file, serde_json::to_vec_pretty(&plan)?)?;
        let program = own_program()?.get_program().to_owned();
        let command: [OsString; 5] = [
            program,
            "demo-part".into(),
            "intruder".into(),
            file.into(),
            account.clone().into(),
        ];
        let pid = plan.agent.and_then(|pid| u32::try_from(pid).ok());
        let pid = pid.context("the victim's agent does not run")?;
        let child = self
            .stage
            .start_beside(pid, &command, &folder.join("intruder.log"))?;
        Ok(Attack {
            victim,
            child,
            account,
            lines: 0,
            first_deed: None,
            end: None,
        })
    }

    fn plan(&self, victim: usize, agent_first: bool) -> anyhow::Result<intruder::Plan> {
        let member = self.members.get(victim).context("no such device")?;
        let neighbour = self.members.iter().find(|one| one.product == "lock");
        let neighbour = neighbour.context("no lock")?;
        let own = self.stage.address_of(&member.wire);
        let ldevid = newest_ldevid(&member.path("state"))?;
        let (est, mqtt) = self.doors;
        let mut elsewhere = Vec::new();
        if matches!(self.stage, Stage::Namespaces(_)) {
            elsewhere.push(self.console.address());
            elsewhere.push((self.stage.address_of(&neighbour.wire), 22).into());
            elsewhere.push(cast::unlisted(&self.stage));
        }
        Ok(intruder::Plan {
            device: member.name.clone(),
            serial: member.serial.clone(),
            est,
            mqtt,
            server_name: "localhost".into(),
            roots: self.roots.clone(),
            ldevid: Files {
                certificate: ldevid.clone(),
                key: ldevid,
            },
            idevid: Files {
                certificate: member.path("idevid.pem"),
                key: member.path("idevid.key"),
            },
            from: Some(own.into()),
            own_topic: member.topic.replace("/status", "/intruder"),
            foreign_topic: format!("v1/lock/{}/command/open", neighbour.name),
            report_topic: format!("$fleetward/devices/{}/report", member.name),
            listen: match self.stage {
                Stage::Namespaces(_) => ([0, 0, 0, 0], cast::OPENED_PORT).into(),
                Stage::Processes(_) => (own, cast::OPENED_PORT).into(),
            },
            unlisted: cast::unlisted(&self.stage),
            volume_bytes: VOLUME_BYTES,
            resolver: self.observing.resolver,
            dns_queries: DNS_QUERIES,
            firmware: member.path("firmware.bin"),
            agent: member.pid().and_then(|pid| i32::try_from(pid).ok()),
            old_reports: old_reports(member)?,
            agent_first,
            elsewhere,
            pause_ms: 200,
            hold_seconds: 40,
            seed: self.demo.seed,
        })
    }

    /// Tells the attack until the intruder has tried every way back, or gave up.
    fn follow(&mut self, attack: Attack) -> anyhow::Result<(Case, Attack)> {
        let mut attack = attack;
        let name = self.name(attack.victim);
        let deadline = Instant::now() + PATIENCE;
        while attack.end.is_none() {
            self.read_account(&mut attack)?;
            self.beat()?;
            let case = self.watch.case(&name);
            if self.report.start_to_incident_s.is_none() && case.incident.is_some() {
                let seconds = self.telling.began().elapsed().as_secs_f64();
                self.report.start_to_incident_s = Some((seconds * 10.0).round() / 10.0);
            }
            let over = attack.child.try_wait()?.is_some();
            self.read_account(&mut attack)?;
            if (over && attack.end.is_none()) || Instant::now() > deadline {
                let log = attack.account.with_file_name("intruder.log");
                let said = std::fs::read_to_string(log).unwrap_or_default();
                self.tell(
                    Voice::Stage,
                    &format!("the intruder ended early: {}", said.trim()),
                );
                break;
            }
        }
        // What was seen last is still on its way.
        let until = Instant::now() + Duration::from_secs(2);
        self.wait("the last alerts", |_| Ok(Instant::now() > until))?;
        Ok((self.watch.case(&name), attack))
    }

    fn read_account(&self, attack: &mut Attack) -> anyhow::Result<()> {
        let text = std::fs::read_to_string(&attack.account).unwrap_or_default();
        // A line is whole when it ends.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        for line in whole.lines().skip(attack.lines) {
            attack.lines += 1;
            match serde_json::from_str(line)? {
                Line::Deed { at, deed, outcome } => {
                    // Connecting with a stolen key is where it begins.
                    attack.first_deed.get_or_insert(at);
                    self.tell(Voice::Intruder, &format!("{deed}: {outcome}"));
                }
                Line::End(end) => attack.end = Some(end),
            }
        }
        Ok(())
    }

    /// Nothing acknowledged may be missing after SIGKILL, and nobody revoked may come back.
    fn kill_the_plane(&mut self) -> anyhow::Result<()> {
        self.plane.kill()?;
        self.tell(
            Voice::Stage,
            "the plane is killed (SIGKILL) and started again",
        );
        let mut place = cast::place_of_plane(&self.stage);
        (place.devices, place.mqtt) = self.doors;
        self.plane = PlaneProcess::start(self.scratch.path(), &place, Some(&self.console))?;
        if let Some(hearing) = &self.hearing {
            hearing.moved_to(self.plane.doors()?.mqtt);
        }
        let expected = self.members.len() - self.victims.len();
        self.wait("the others to come back", |story| {
            Ok(story.connected()?.len() >= expected)
        })?;
        let names: BTreeSet<String> = self.connected()?.into_keys().collect();
        self.report.others_reconnected_after_kill =
            self.others().filter(|name| names.contains(*name)).count();
        self.report.others_after_second = self.others().count();
        let back = self.others().count() == names.len();
        self.tell(
            Voice::Stage,
            &format!(
                "{} others came back by themselves; {}",
                self.report.others_reconnected_after_kill,
                if back {
                    "nobody revoked did"
                } else {
                    "AND SOMEBODY WHO SHOULD NOT"
                }
            ),
        );
        // Those who were never tried were never refused.
        let refused = |part: &str| {
            let ways = self.ends.iter().flat_map(|end| &end.ways);
            let ways: Vec<_> = ways.filter(|way| way.way.starts_with(part)).collect();
            ways.len() >= self.victims.len() && ways.iter().all(|way| way.refused)
        };
        self.report.reconnect_refused = refused("MQTT") && back;
        self.report.reenroll_refused = refused("a new certificate");
        self.report.elsewhere_refused =
            matches!(self.stage, Stage::Processes(_)) || refused("a connection");
        Ok(())
    }

    /// Agents end as a service manager would end them, then everything is counted.
    fn end(mut self) -> anyhow::Result<Report> {
        let victims = self.victims.clone();
        let mut acknowledged = BTreeMap::new();
        for (index, member) in self.members.iter_mut().enumerate() {
            member.stop()?;
            if !victims.contains(&index) {
                acknowledged.insert(member.topic.clone(), self::acknowledged(member)?);
            }
        }
        let settled = |story: &Self| {
            let heard = story
                .hearing
                .as_ref()
                .map(Hearing::heard)
                .unwrap_or_default();
            let mut lost = 0;
            for (topic, last) in &acknowledged {
                // Sent in order, so those acknowledged are the first so many. One that was given up
                // would count as lost here, and rightly be looked at.
                lost += heard.get(topic).map_or(*last, |one| one.missing(*last));
            }
            lost
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        while settled(&self) > 0 && Instant::now() < deadline {
            self.beat()?;
        }
        self.report.lost = settled(&self);
        self.report.messages_sent = acknowledged.values().sum();
        if let Some(hearing) = self.hearing.take() {
            let heard = hearing.heard();
            self.report.sessions_forgotten = hearing.sessions_forgotten();
            let ours = heard
                .iter()
                .filter(|(topic, _)| acknowledged.contains_key(*topic));
            for (_, one) in ours {
                self.report.messages_delivered += one.numbers.len() as u64;
                self.report.duplicates += one.duplicates;
            }
            hearing.stop();
        }
        self.prove()?;
        for line in self.report.told() {
            self.tell(Voice::Stage, &line);
        }
        if self.demo.keep {
            let kept = self.scratch.path().display().to_string();
            self.tell(Voice::Stage, &format!("kept: {kept}"));
        }
        let report = std::mem::take(&mut self.report);
        self.plane.stop()?;
        Ok(report)
    }

    /// The log as an outsider verifies it, with the revocation in it.
    fn prove(&mut self) -> anyhow::Result<()> {
        let victim = self.victims.first().map(|victim| self.name(*victim));
        let case = self.watch.case(&victim.unwrap_or_default());
        let Some(entry) = case.revocation_entry else {
            self.report.audit_warnings = vec!["no revocation is on record".into()];
            return Ok(());
        };
        let proof = self.plane.proof(&self.key, entry)?;
        self.report.audit_entries = proof.entries;
        self.report.audit_verified = proof.verified;
        self.report.audit_warnings = proof.warnings;
        Ok(())
    }

    /// Leaves everything running until Ctrl-C, the person signed in.
    fn stay(mut self) -> anyhow::Result<Report> {
        let link = self.plane.sign_in_link(self.scratch.path())?;
        let data = self.scratch.path().join("data").display().to_string();
        let incident = self.victims.first().map(|victim| self.name(*victim));
        let incident = self.watch.case(&incident.unwrap_or_default()).incident;
        let incident = incident.unwrap_or_else(|| "INC-1".into());
        self.tell(
            Voice::Stage,
            "the fleet goes on. The console, signed in by this link once:",
        );
        self.tell(Voice::Stage, &format!("  {link}"));
        self.tell(
            Voice::Stage,
            "  (the browser does not know this plane's certificate: it was made a minute ago)",
        );
        self.tell(Voice::Stage, "three commands to try, in another terminal:");
        for command in [
            format!("fleetward response show {incident} --data {data}"),
            format!("fleetward inventory list --data {data}"),
            format!("fleetward audit bundle --out evidence.json --data {data}"),
        ] {
            self.tell(Voice::Stage, &format!("  {command}"));
        }
        self.tell(Voice::Stage, "Ctrl-C counts, proves and ends");
        // What a person does now is told too, and a device that is restored gets its port back.
        while !self.interrupts.came()? {
            self.watch.look(&mut self.plane, &self.telling)?;
            self.cut_wires()?;
            std::thread::sleep(CALM);
        }
        self.end()
    }

    /// Looks at the plane once and lets a moment pass.
    fn beat(&mut self) -> anyhow::Result<()> {
        if self.interrupts.came()? {
            bail!("interrupted");
        }
        self.watch.look(&mut self.plane, &self.telling)?;
        self.cut_wires()?;
        let left = BEAT.saturating_sub(self.looked_at.elapsed());
        std::thread::sleep(left);
        self.looked_at = Instant::now();
        Ok(())
    }

    fn wait(
        &mut self,
        what: &str,
        done: impl Fn(&mut Self) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !done(self)? {
            if Instant::now() > deadline {
                bail!("waited in vain for {what}; --keep leaves the logs");
            }
            self.beat()?;
        }
        Ok(())
    }

    /// Whom the plane cut off, the network cuts off too.
    fn cut_wires(&mut self) -> anyhow::Result<()> {
        let Stage::Namespaces(network) = &self.stage else {
            return Ok(());
        };
        let cut: BTreeSet<String> = self.watch.contained().map(str::to_owned).collect();
        for member in &self.members {
            let was = self.cut.contains(&member.name);
            let is = cut.contains(&member.name);
            if is && !was {
                network.cut(&member.wire)?;
                let text = format!("the bridge cuts {}'s port but for the plane", member.name);
                self.telling.tell(Voice::Done, &text);
            } else if was && !is {
                network.mend(&member.wire)?;
            }
        }
        self.cut = cut;
        Ok(())
    }

    /// Devices with their agent's session, and when it was opened.
    fn connected(&mut self) -> anyhow::Result<BTreeMap<String, String>> {
        let sessions = self.plane.ask(Ask::get("/api/v1/gateway/sessions"))?;
        let text = |one: &Value, key: &str| Some(one.get(key)?.as_str()?.to_owned());
        let device = |one: &Value| {
            let name = text(one, "principal")?.strip_prefix("device/")?.to_owned();
            let own = text(one, "client_id")? == name && one.get("connected")?.as_bool()?;
            own.then_some((name, text(one, "opened_at")?))
        };
        Ok(sessions
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(device)
            .collect())
    }

    fn heard_of(&self, members: &BTreeSet<usize>) -> bool {
        let heard = self
            .hearing
            .as_ref()
            .map(Hearing::heard)
            .unwrap_or_default();
        members
            .iter()
            .filter_map(|index| self.members.get(*index))
            .all(|member| heard.contains_key(&member.topic))
    }

    /// Names of those who were not attacked.
    fn others(&self) -> impl Iterator<Item = &str> {
        self.members
            .iter()
            .enumerate()
            .filter(|(index, _)| !self.victims.contains(index))
            .map(|(_, member)| member.name.as_str())
    }

    fn name(&self, index: usize) -> String {
        let member = self.members.get(index);
        member.map(|member| member.name.clone()).unwrap_or_default()
    }
}

/// What makes a month fit into a minute; told, and in the report.
const STAGED: [&str; 3] = [
    "staged: what is normal is declared by the fleet's files, not learned over weeks",
    "staged: agents report every second, not every minute",
    "staged: the playbook acts by itself; in examples/fleet it only says what it would do",
];

fn isolation(stage: &Stage) -> Isolation {
    match stage {
        Stage::Namespaces(_) => Isolation {
            kind: "namespaces",
            why_not_more: None,
            separated: vec![
                "each device has a network and user namespace of its own, on a port of one bridge",
                "devices cannot reach each other, nor enter the plane's namespaces",
                "the console listens in the host's network, which devices cannot reach",
            ],
            not_separated: vec![
                "all processes are one user's: a device could read the demo's files",
                "one process namespace: a device could signal the plane",
            ],
        },
        Stage::Processes(failed) => Isolation {
            kind: "processes",
            why_not_more: Some(failed.to_string()),
            separated: vec!["each device is a process group of its own"],
            not_separated: vec![
                "all share this machine's loopback: an address is a label, not proof",
                "what leaves a device cannot be seen from outside it, but at the plane's doors and \
                 by our resolver",
                "all processes are one user's",
            ],
        },
    }
}

fn told(isolation: &Isolation) -> String {
    match &isolation.why_not_more {
        None => "each device in a network namespace of its own, on one bridge".into(),
        Some(why) => format!("processes side by side, no namespaces ({why})"),
    }
}

/// The agent's newest certificate and key, in one file.
fn newest_ldevid(state: &Path) -> anyhow::Result<PathBuf> {
    let number = |name: &str| -> Option<u64> {
        name.strip_prefix("ldevid-")?
            .strip_suffix(".pem")?
            .parse()
            .ok()
    };
    let mut newest = None;
    for entry in std::fs::read_dir(state)? {
        let entry = entry?;
        let found = entry.file_name().to_str().and_then(number);
        newest = newest.max(found.map(|number| (number, entry.path())));
    }
    let (_, path) = newest.context("the victim has no certificate yet")?;
    Ok(path)
}

/// The agent's first reports of this start, which its own notes name: that all was well.
fn old_reports(member: &Member) -> anyhow::Result<Vec<String>> {
    let status = member.status()?;
    let boot = status.get("boot").and_then(Value::as_str);
    let boot = boot.context("the agent does not say its boot")?;
    let (version, image) = fleet::firmware(member.product).context("no firmware")?;
    let report = |sequence: u64| {
        json!({
            "format": 1, "boot": boot, "sequence": sequence, "at": sim::now().as_millis(),
            "interval_ms": 1000,
            "firmware": { "version": version, "sha256": fleet::sha256(image) },
        })
        .to_string()
    };
    Ok((1..=REPLAYED).map(report).collect())
}

/// How many messages of a member were acknowledged, by its agent's own count.
fn acknowledged(member: &Member) -> anyhow::Result<u64> {
    let status = member.status()?;
    let acknowledged = status.pointer("/counts/duties_acknowledged");
    let acknowledged = acknowledged.and_then(Value::as_u64);
    acknowledged.with_context(|| format!("{} does not say what was acknowledged", member.name))
}
