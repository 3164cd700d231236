//! Packets through an nftables, and what came out. Tests of other crates include this file.

use access::{Direction, Flow};
use serde_json::{Value, json};
use std::io::Write;
use std::process::{Command, Stdio};

/// From the folder of any crate of a floor: other crates' tests include this file.
pub const SCRIPTS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../rooms/access/tests/it/network"
);

pub fn python(command: &mut Command, input: &Value) -> Result<Value, String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let mut pipe = child.stdin.take().unwrap();
    let text = input.to_string();
    let writing = std::thread::spawn(move || {
        let _ = pipe.write_all(text.as_bytes());
    });
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(serde_json::from_slice(&output.stdout).unwrap())
}

/// Whether this machine lets us have a gateway; says so if not.
pub fn may_have_a_gateway() -> bool {
    let script = "export PATH=/usr/sbin:/usr/bin:$PATH; ip link add lan0 type veth peer name dev0 && nft -f -";
    let table = "table inet t { chain c { type filter hook prerouting priority 0; ct state new accept; }; }\n";
    let mut command = Command::new("unshare");
    command
        .args(["-rn", "sh", "-c", script])
        .stdin(Stdio::piped())
        .stderr(Stdio::null());
    let done = command.spawn().is_ok_and(|mut child| {
        child
            .stdin
            .take()
            .unwrap()
            .write_all(table.as_bytes())
            .unwrap();
        child.wait().unwrap().success()
    });
    let python = Command::new("python3").arg("-V").output().is_ok();
    if !(done && python) {
        println!("skipped: no network namespace with nftables, or no python3, can be had here");
    }
    done && python
}

/// Which of the flows pass, one list for each ruleset.
pub fn passed(scenarios: &[(Vec<String>, &[Flow])]) -> Vec<Vec<bool>> {
    let asked: Vec<Value> = (scenarios.iter())
        .map(|(batches, flows)| {
            let probes: Vec<Value> = flows.iter().map(probe).collect();
            json!({ "batches": batches, "probes": probes })
        })
        .collect();
    let mut gateway = Command::new("unshare");
    gateway.args(["-rn", "python3", "-I", &format!("{SCRIPTS}/gateway.py")]);
    let answer = python(&mut gateway, &Value::Array(asked)).unwrap_or_else(|why| panic!("{why}"));
    (answer.as_array().unwrap().iter().zip(scenarios))
        .map(|(passed, (_, flows))| {
            let mut through = vec![false; flows.len()];
            for number in passed.as_array().unwrap() {
                through[usize::try_from(number.as_u64().unwrap()).unwrap()] = true;
            }
            through
        })
        .collect()
}

pub fn probe(flow: &Flow) -> Value {
    let from_device = flow.direction == Direction::FromDevice;
    let (source, destination) = if from_device {
        (flow.device, flow.remote)
    } else {
        (flow.remote, flow.device)
    };
    let (source_port, destination_port) = if from_device {
        (flow.device_port, flow.remote_port)
    } else {
        (flow.remote_port, flow.device_port)
    };
    json!({
        "interface": if from_device { "lan0" } else { "wan0" },
        "from_device": from_device,
        "source": source,
        "destination": destination,
        "protocol": flow.protocol,
        "source_port": source_port,
        "destination_port": destination_port,
        "icmp": [flow.icmp.0, flow.icmp.1],
    })
}
