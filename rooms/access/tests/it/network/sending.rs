//! Packets out of a device, as its own kernel lets them. For the tests of other crates.

use access::Flow;
use std::io::Write;
use std::process::{Command, Stdio};

/// Sends one packet for each line of its input, and says of each whether the kernel let it out.
const SENDER: &str = r#"
import socket, struct, sys
v4 = {p: socket.socket(socket.AF_INET, socket.SOCK_RAW, p) for p in (6, 17)}
v6 = {p: socket.socket(socket.AF_INET6, socket.SOCK_RAW, p) for p in (6, 17)}
for line in sys.stdin:
    protocol, address, source, target = line.split()
    protocol = int(protocol)
    ports = struct.pack("!HH", int(source), int(target))
    rest = struct.pack("!IIBBHHH", 1, 0, 0x50, 2, 1024, 0, 0) if protocol == 6 else struct.pack("!HH", 8, 0)
    try:
        (v6 if ":" in address else v4)[protocol].sendto(ports + rest, (address, 0))
        print(1)
    except PermissionError:
        print(0)
"#;

/// Which of the flows a device's own kernel lets out, where `device` runs a program as the device would.
pub fn let_out(mut device: Command, flows: &[Flow]) -> Vec<bool> {
    let lines: String = (flows.iter())
        .map(|flow| {
            format!(
                "{} {} {} {}\n",
                flow.protocol, flow.remote, flow.device_port, flow.remote_port
            )
        })
        .collect();
    let mut child = device
        .args(["python3", "-I", "-c", SENDER])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let writing = std::thread::spawn(move || pipe.write_all(lines.as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let out: Vec<bool> = text.lines().map(|line| line == "1").collect();
    assert_eq!(out.len(), flows.len(), "not all were sent");
    out
}
