//! One policy, asked everywhere: Cedar itself, our compiled decision and a gateway's nftables.

use super::cedar::Cedar;
use super::decisions::{self, Random};
use super::probing::{may_have_a_gateway, passed};
use access::{Flow, Grants, decide, nftables};

const SCENES: usize = 20;
const FLOWS: usize = 500;

#[test]
fn ten_thousand_decisions_are_the_same_in_cedar_in_our_function_and_at_a_gateway() {
    let mut random = Random::new(20260101);
    let mut scenes = Vec::new();
    for _ in 0..SCENES {
        let scene = decisions::scene(&mut random, 6);
        let flows: Vec<(usize, Flow)> = (0..FLOWS)
            .map(|_| decisions::flow(&mut random, &scene))
            .collect();
        scenes.push((scene, flows));
    }
    let mut permitted = 0;
    let mut rulesets = Vec::new();
    let mut decided: Vec<Vec<bool>> = Vec::new();
    for (scene, flows) in &scenes {
        // Some random policies say nothing that could ever apply; reading says so.
        let grants: Grants = crate::compile(&scene.files, &[]);
        let population = scene.site.hosts.iter().map(|host| {
            let groups: Vec<&str> = host.groups.iter().map(|group| group.as_str()).collect();
            crate::device(host.device.as_str(), host.product.as_str(), &groups)
        });
        let grants = Grants::compile(grants.fleet(), population).unwrap();
        let cedar = Cedar::new(&scene.policies);
        let mut answers = Vec::new();
        for (number, flow) in flows {
            let host = &scene.site.hosts[*number];
            let rules = grants.network_rules(host);
            let ours = decide(&rules, &scene.site, host, flow).is_permitted();
            assert_eq!(
                ours,
                cedar.lets_through(scene, *number, flow),
                "{flow:?} of {host:?}\n{}",
                scene.policies
            );
            permitted += usize::from(ours);
            answers.push(ours);
        }
        rulesets.push(nftables(&grants, &scene.site).unwrap());
        decided.push(answers);
    }
    println!(
        "{} decisions, {permitted} permitted: Cedar and ours agree",
        SCENES * FLOWS
    );
    assert!((1000..9000).contains(&permitted), "{permitted}");
    if !may_have_a_gateway() {
        return;
    }
    let flows: Vec<Vec<Flow>> = scenes
        .iter()
        .map(|(_, flows)| flows.iter().map(|(_, flow)| *flow).collect())
        .collect();
    let asked: Vec<(Vec<String>, &[Flow])> = (rulesets.iter().zip(&flows))
        .map(|(ruleset, flows)| (ruleset.batches.clone(), flows.as_slice()))
        .collect();
    for (number, (through, decided)) in passed(&asked).iter().zip(&decided).enumerate() {
        for (at, (through, decided)) in through.iter().zip(decided).enumerate() {
            assert_eq!(
                through, decided,
                "{:?}\n{}",
                scenes[number].1[at], rulesets[number].batches[0]
            );
        }
    }
    println!("and a gateway's nftables");
}
