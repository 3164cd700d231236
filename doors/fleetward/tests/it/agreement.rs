//! One fleet and one snapshot of names, asked of everybody who says yes or no in it: Cedar itself, our
//! own decision, the plane's MQTT door, a gateway's nftables, and each device's agent by the table that
//! it made of what the plane told it. The same random questions go to all who can answer them.
//!
//! It runs in a network of its own, so that nothing of this machine's changes.

mod segment;
mod topics;

#[path = "../../../../rooms/access/tests/it/network/cedar.rs"]
mod cedar;
#[path = "../../../../rooms/access/tests/it/network/decisions.rs"]
mod decisions;
#[path = "../../../../rooms/access/tests/it/network/probing.rs"]
mod probing;
#[path = "../../../../rooms/access/tests/it/network/sending.rs"]
mod sending;

use crate::plane::{Home, Plane, Settings, wait_until};
use access::{Facts, Fleet, Flow, Grants, Host, SourceFile, decide};
use cedar::Cedar;
use decisions::{Random, Scene};
use model::{Assurance, Containment, Principal};
use segment::{Agent, DOORS};
use serde_json::{Value, json};
use sim::Device;
use sim::device::Manner;
use std::process::Command;
use topics::Question;

const DESTINATIONS: usize = 12;
const QUESTIONS: usize = 10_000;

#[test]
fn the_same_decisions_in_cedar_at_the_plane_at_a_gateway_and_in_every_agent() {
    let name = "the_same_decisions_in_cedar_at_the_plane_at_a_gateway_and_in_every_agent";
    if segment::enter(&format!("agreement::{name}")) {
        ask_everybody();
    }
}

fn ask_everybody() {
    let asked = Asked::first();
    let hosts = &asked.scene.site.hosts;
    segment::make();
    let home = Home::new(&Settings::default());
    segment::put_doors(&home);
    let plane = home.start();
    let manufacturer = json!({ "manufacturer": "acme", "ca_pem": home.factory.certificate_pem() });
    plane
        .post("/api/v1/identity/manufacturers", &manufacturer)
        .expect(201);
    let files: Vec<(&str, String)> = (asked.scene.files.iter())
        .map(|file| (file.path.as_str(), file.text.clone()))
        .collect();
    plane.apply(&files);
    let mut devices: Vec<Device> = hosts
        .iter()
        .map(|host| home.device(host.device.as_str()))
        .collect();
    expect(&plane, hosts, &devices);
    for device in &mut devices {
        device.enroll(&plane.doors(), &Manner::default()).unwrap();
    }

    let of_agents = by_agents(&asked, &home, &plane, &devices);
    let of_plane = by_plane(&asked, &plane, &mut devices);
    plane.stop_well();
    let of_gateway = by_gateway(&asked, &home);
    asked.compare_flows(&of_gateway, &of_agents);
    asked.compare_topics(&of_plane);
}

/// A fleet, and what is asked in it.
struct Asked {
    scene: Scene,
    grants: Grants,
    flows: Vec<(usize, Flow)>,
    topics: Vec<Question>,
}

impl Asked {
    /// The first random fleet in which one device is quarantined and one isolated, and which permits
    /// neither nearly all nor nearly nothing.
    fn first() -> Self {
        for seed in 1..1000 {
            let mut random = Random::new(seed);
            let Some(asked) = Self::random(&mut random) else {
                continue;
            };
            let permitted = (asked.flows.iter())
                .filter(|(number, flow)| asked.decides(*number, flow))
                .count();
            let may = (asked.topics.iter())
                .filter(|question| asked.grants_topic(question))
                .count();
            let says_enough = |count| (QUESTIONS / 4..QUESTIONS * 3 / 4).contains(&count);
            if says_enough(permitted) && says_enough(may) {
                println!("agreement: the fleet of seed {seed}");
                for (name, addresses) in &asked.scene.site.names {
                    println!("agreement: {name} is {addresses:?}");
                }
                return asked;
            }
        }
        panic!("no random fleet says enough");
    }

    /// `None`: it is not taken, or too few of its devices are cut off.
    fn random(random: &mut Random) -> Option<Self> {
        let mut scene = decisions::scene(random, DESTINATIONS);
        scene.site.plane = DOORS.iter().map(|door| door.parse().unwrap()).collect();
        let policies = topics::policies(random);
        scene.policies += &policies;
        for (path, text) in [
            ("policies/topics.cedar", policies),
            ("channels/c.toml", topics::channels()),
        ] {
            scene.files.push(SourceFile {
                path: path.into(),
                text,
            });
        }
        let cut = |degree| {
            let hosts = scene.site.hosts.iter();
            hosts
                .filter(|host| host.containment == Some(degree))
                .count()
        };
        if cut(Containment::Quarantined) != 1 || cut(Containment::Isolated) != 1 {
            return None;
        }
        let fleet = Fleet::read(&scene.files).ok()?;
        let grants = Grants::compile(&fleet, scene.site.hosts.iter().map(facts)).ok()?;
        let flows = (0..QUESTIONS)
            .map(|_| decisions::flow(random, &scene))
            .collect();
        let topics = (0..QUESTIONS)
            .map(|_| topics::question(random, &scene.site.hosts))
            .collect();
        Some(Self {
            scene,
            grants,
            flows,
            topics,
        })
    }

    fn decides(&self, number: usize, flow: &Flow) -> bool {
        let host = &self.scene.site.hosts[number];
        decide(
            &self.grants.network_rules(host),
            &self.scene.site,
            host,
            flow,
        )
        .is_permitted()
    }

    fn grants_topic(&self, question: &Question) -> bool {
        let host = &self.scene.site.hosts[question.device];
        let subject = self.grants.subject(&Facts {
            containment: host.containment,
            ..facts(host)
        });
        question.is_granted(&self.grants, &subject)
    }

    fn compare_flows(&self, of_gateway: &[bool], of_agents: &[bool]) {
        let cedar = Cedar::new(&self.scene.policies);
        let plane = self.scene.site.plane[0];
        let (mut permitted, mut six, mut left_open) = (0, 0, 0);
        for (at, (number, flow)) in self.flows.iter().enumerate() {
            let host = &self.scene.site.hosts[*number];
            let ours = self.decides(*number, flow);
            let said = format!("{flow:?} of {host:?}\n{}", self.scene.policies);
            assert_eq!(
                ours,
                cedar.lets_through(&self.scene, *number, flow),
                "Cedar: {said}"
            );
            assert_eq!(ours, of_gateway[at], "the gateway: {said}");
            let goes_to_plane =
                flow.protocol == 6 && flow.remote == plane.ip() && flow.remote_port == plane.port();
            if goes_to_plane && host.containment == Some(Containment::Isolated) {
                // By which it hears that it is restored. Everybody else keeps that way shut.
                assert!(of_agents[at] && !ours, "the agent: {said}");
                left_open += 1;
            } else {
                assert_eq!(ours, of_agents[at], "the agent: {said}");
            }
            permitted += usize::from(ours);
            six += usize::from(flow.remote.is_ipv6());
        }
        println!(
            "agreement: {QUESTIONS} flows ({six} of IPv6), {permitted} permitted: alike in Cedar, in our \
             decision, at a gateway's nftables and in the devices' agents, but for {left_open} of an \
             isolated device to the plane's own door"
        );
    }

    fn compare_topics(&self, of_plane: &[bool]) {
        let cedar = Cedar::new(&self.scene.policies);
        let (mut permitted, mut publishes) = (0, 0);
        for (question, plane) in self.topics.iter().zip(of_plane) {
            let host = &self.scene.site.hosts[question.device];
            let ours = self.grants_topic(question);
            let said = format!("{question:?} of {host:?}\n{}", self.scene.policies);
            let cedars = host.containment.is_none() && question.is_permitted(&cedar, host);
            assert_eq!(ours, cedars, "Cedar: {said}");
            assert_eq!(ours, *plane, "the plane: {said}");
            permitted += usize::from(ours);
            publishes += usize::from(question.publishes);
        }
        println!(
            "agreement: {QUESTIONS} topics ({publishes} published to, the others subscribed to), \
             {permitted} permitted: alike in Cedar, in our grants and at the plane's MQTT door"
        );
    }
}

/// What each device's kernel lets out, by its agent's table.
fn by_agents(asked: &Asked, home: &Home, plane: &Plane, devices: &[Device]) -> Vec<bool> {
    let site = &asked.scene.site;
    let names: String = (site.names.iter())
        .flat_map(|(name, addresses)| addresses.iter().map(move |one| format!("{one} {name}\n")))
        .collect();
    let names = home.write("hosts", names.as_bytes());
    let mut agents: Vec<Agent> = (site.hosts.iter().zip(devices).enumerate())
        .map(|(number, (host, device))| Agent::start(home, plane, number, host, device, &names))
        .collect();
    for agent in &agents {
        wait_until("it enforces what the plane told it", || {
            agent.status()["destination_rules"].as_u64() > Some(0)
        });
    }
    for (host, agent) in site.hosts.iter().zip(&agents) {
        let Some(degree) = host.containment else {
            continue;
        };
        contain(plane, host, degree);
        wait_until("it fences itself in", || {
            let status = agent.status();
            status["containment"] == degree.name() && status["enforced_locally"] == true
        });
    }
    let mut answers = vec![false; asked.flows.len()];
    for (number, agent) in agents.iter().enumerate() {
        let (places, flows): (Vec<usize>, Vec<Flow>) = (asked.flows.iter().enumerate())
            .filter(|(_, (of, _))| *of == number)
            .map(|(at, (_, flow))| (at, *flow))
            .unzip();
        let out = sending::let_out(agent.inside(), &flows);
        for (at, out) in places.into_iter().zip(out) {
            answers[at] = out;
        }
    }
    restore_and_contain(plane, &site.hosts, &agents);
    for agent in &mut agents {
        agent.stop();
    }
    answers
}

/// The fence that a device puts up for itself goes when the plane gives it back.
fn restore_and_contain(plane: &Plane, hosts: &[Host], agents: &[Agent]) {
    for (host, agent) in hosts.iter().zip(agents) {
        let Some(degree) = host.containment else {
            continue;
        };
        let path = format!("/api/v1/response/containments/{}", host.device);
        plane.try_ask("DELETE", &path, None).unwrap().expect(200);
        wait_until("it is free again", || {
            let status = agent.status();
            status["containment"].is_null() && status["enforced_locally"] == false
        });
        contain(plane, host, degree);
    }
}

fn contain(plane: &Plane, host: &Host, degree: Containment) {
    let body = json!({
        "device": host.device.as_str(), "containment": degree.name(), "reason": "a test",
    });
    plane
        .post("/api/v1/response/containments", &body)
        .expect(201);
}

/// What the plane's MQTT door answers each device.
fn by_plane(asked: &Asked, plane: &Plane, devices: &mut [Device]) -> Vec<bool> {
    let mut answers = vec![false; asked.topics.len()];
    let (doors, manner) = (plane.doors(), Manner::default());
    for (number, device) in devices.iter_mut().enumerate() {
        let host = &asked.scene.site.hosts[number];
        let connected = device.connect(&doors, &manner);
        if host.containment == Some(Containment::Isolated) {
            // Whoever is not let in is denied all.
            assert!(connected.is_err(), "{host:?}");
            continue;
        }
        connected.unwrap();
        let (places, questions): (Vec<usize>, Vec<&Question>) = (asked.topics.iter().enumerate())
            .filter(|(_, question)| question.device == number)
            .unzip();
        let mut session = device.take_session().unwrap();
        let heard = topics::ask(&mut session, &questions);
        session.disconnect();
        for (at, heard) in places.into_iter().zip(heard) {
            answers[at] = heard;
        }
    }
    answers
}

/// What a gateway lets through with the table that the command line writes for it.
fn by_gateway(asked: &Asked, home: &Home) -> Vec<bool> {
    let site = &asked.scene.site;
    let fleet = home.path("fleet");
    for file in &asked.scene.files {
        let path = fleet.join(&file.path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, &file.text).unwrap();
    }
    let quoted = |texts: Vec<String>| {
        let texts: Vec<String> = texts.iter().map(|text| format!("{text:?}")).collect();
        format!("[{}]", texts.join(", "))
    };
    let mut text = format!(
        "plane = {}\n[local]\n",
        quoted(DOORS.map(str::to_owned).into())
    );
    for (role, networks) in &site.local {
        let networks = networks.iter().map(ToString::to_string).collect();
        text += &format!("{role} = {}\n", quoted(networks));
    }
    text += "[names]\n";
    for (name, addresses) in &site.names {
        let addresses = addresses.iter().map(ToString::to_string).collect();
        text += &format!("{name:?} = {}\n", quoted(addresses));
    }
    let site_file = home.write("site.toml", text.as_bytes());
    let mut csv = "device,product,groups,ipv4,ipv6,containment\n".to_owned();
    for host in &site.hosts {
        let [four, six] = host.addresses[..] else {
            panic!("{host:?}")
        };
        csv += &format!(
            "{},{},{},{four},{six},{}\n",
            host.device,
            host.product,
            groups(host),
            host.containment.map_or("free", Containment::name)
        );
    }
    let list = home.write("devices.csv", csv.as_bytes());
    let ran = Command::new(env!("CARGO_BIN_EXE_fleetward"))
        .args(["access", "nftables", "--output", "json"])
        .arg(&fleet)
        .arg("--site")
        .arg(&site_file)
        .arg("--devices")
        .arg(&list)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{said}");
    let ruleset: Value = serde_json::from_slice(&ran.stdout).unwrap();
    let batches: Vec<String> = serde_json::from_value(ruleset["batches"].clone()).unwrap();
    let flows: Vec<Flow> = asked.flows.iter().map(|(_, flow)| *flow).collect();
    // No more at once than a queue of the kernel's holds.
    let scenarios: Vec<(Vec<String>, &[Flow])> = flows
        .chunks(500)
        .map(|part| (batches.clone(), part))
        .collect();
    probing::passed(&scenarios).concat()
}

/// Puts the devices on the list, each as what it is at the site.
fn expect(plane: &Plane, hosts: &[Host], devices: &[Device]) {
    let mut csv = "serial,product,device,groups\n".to_owned();
    for (host, device) in hosts.iter().zip(devices) {
        csv += &format!(
            "{},{},{},{}\n",
            device.serial(),
            host.product,
            host.device,
            groups(host)
        );
    }
    plane.expect_csv(&csv).expect(201);
}

fn groups(host: &Host) -> String {
    let names: Vec<&str> = host.groups.iter().map(|group| group.as_str()).collect();
    names.join(";")
}

/// All that policies see of a device.
fn facts(host: &Host) -> Facts {
    Facts {
        principal: Principal::Device(host.device.clone()),
        product: Some(host.product.clone()),
        groups: host.groups.clone(),
        attributes: Default::default(),
        containment: None,
        assurance: Assurance::default(),
    }
}
