//! Behind a balancer: HAProxy says for whom it comes, and nobody else is believed.

use crate::plane::{Home, Plane, Settings, wait_until};
use crate::tools::{have, openssl, run, write_credential, write_root};
use sim::device::Manner;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

/// The balancer's own address, and a client's, on loopback.
const BALANCER: &str = "127.0.0.2";
const CLIENT: &str = "127.0.0.9";

fn scene() -> (Home, Plane) {
    let home = Home::new(&Settings {
        listen: format!("proxies = [\"{BALANCER}\"]"),
        more: "[listen.alpn]\naddress = \"127.0.0.1:0\"".to_owned(),
        ..Settings::default()
    });
    let plane = home.start_prepared();
    write_root(&home, &plane);
    (home, plane)
}

struct Haproxy {
    child: Child,
    ports: [u16; 3],
}

impl Haproxy {
    /// In front of 8883, the port by ALPN, and 8444.
    fn start(home: &Home, plane: &Plane) -> Option<Self> {
        let program = ["/usr/sbin/haproxy", "/usr/bin/haproxy"];
        let Some(program) = program.iter().find(|it| std::path::Path::new(it).exists()) else {
            println!("skipped: haproxy is not installed");
            return None;
        };
        let doors = [plane.mqtt, plane.alpn.unwrap(), plane.devices];
        let ports = doors.map(|_| {
            let free = TcpListener::bind("127.0.0.1:0").unwrap();
            free.local_addr().unwrap().port()
        });
        let mut config = "defaults\n mode tcp\n timeout connect 5s\n timeout client 60s\n \
                          timeout server 60s\n"
            .to_owned();
        for (number, (port, door)) in ports.iter().zip(doors).enumerate() {
            config += &format!(
                "listen l{number}\n bind 127.0.0.1:{port}\n server s {door} send-proxy-v2 source {BALANCER}\n"
            );
        }
        home.write("haproxy.cfg", config.as_bytes());
        let child = Command::new(program)
            .args(["-db", "-f", "haproxy.cfg"])
            .current_dir(home.path(""))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_until("haproxy listens", || {
            ports
                .iter()
                .all(|port| TcpStream::connect(("127.0.0.1", *port)).is_ok())
        });
        Some(Self { child, ports })
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn haproxy_in_front_of_each_door_shows_who_is_behind_it() {
    if !have(&["mosquitto_pub", "curl"]) {
        return;
    }
    let (home, plane) = scene();
    let Some(haproxy) = Haproxy::start(&home, &plane) else {
        return;
    };
    let [mqtt, alpn, devices] = haproxy.ports;
    let mut device = home.device("cam");
    plane.expect([&device]);
    device.enroll(&plane.doors(), &Manner::default()).unwrap();
    write_credential(&home, device.ldevid().unwrap(), "cam");
    let publish = |port: u16, more: &[&str]| {
        let port = port.to_string();
        let common = [
            "-h",
            "localhost",
            "-p",
            &port,
            "--cafile",
            "root.pem",
            "--cert",
            "cam.pem",
            "--key",
            "cam.key",
            "-i",
            "cam",
            "-A",
            CLIENT,
            "-V",
            "5",
            "-q",
            "1",
            "-t",
            "v1/sensor/cam/telemetry/t",
            "-m",
            "21",
        ];
        run(&home, "mosquitto_pub", &[&common[..], more].concat(), b"")
    };
    let seen_at = |address: &str| {
        let shown = plane
            .get("/api/v1/inventory/devices/cam")
            .expect(200)
            .json();
        shown["addresses"].to_string().contains(address)
    };
    let ran = publish(mqtt, &[]);
    assert!(ran.good, "{}", ran.err);
    wait_until("its address is known", || seen_at(CLIENT));
    assert!(!seen_at(BALANCER));
    let ran = publish(alpn, &["--tls-alpn", "mqtt"]);
    assert!(ran.good, "{}", ran.err);
    for port in [alpn, devices] {
        let url = format!("https://localhost:{port}/.well-known/est/cacerts");
        let arguments = [
            "-sS",
            "--cacert",
            "root.pem",
            "--interface",
            CLIENT,
            "-o",
            "got",
            &url,
        ];
        let ran = run(&home, "curl", &arguments, b"");
        assert!(ran.good, "{}", ran.err);
    }
    // What is refused is refused to the client's address, not the balancer's.
    let mark = plane.lines.mark();
    for port in [mqtt, devices] {
        let mut plain = bound_to(CLIENT, ([127, 0, 0, 1], port).into());
        plain.write_all(b"no TLS at all\r\n").unwrap();
        drop(plain);
    }
    plane.lines.wait_for(mark, &format!("devices {CLIENT}:"));
    let line = plane.lines.wait_from(mark, |line| {
        line.contains(" gateway: ") && line.contains(CLIENT) && line.contains("not-tls")
    });
    assert!(line.is_some());
}

/// A connection that comes from there.
fn bound_to(from: &str, to: SocketAddr) -> TcpStream {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let from: Ipv4Addr = from.parse().unwrap();
    let made = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&made, &SocketAddr::from((from, 0))).unwrap();
    connect(&made, &to).unwrap();
    TcpStream::from(made)
}

fn header(source: [u8; 4]) -> Vec<u8> {
    let mut out = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c".to_vec();
    out.extend(source);
    out.extend([127, 0, 0, 1, 0x12, 0x34, 0x22, 0xb3]);
    out
}

#[test]
fn a_header_is_demanded_of_a_balancer_and_refused_from_all_others() {
    let (_home, plane) = scene();
    for door in [plane.mqtt, plane.alpn.unwrap(), plane.devices] {
        // A stranger who would be somebody else.
        let mark = plane.lines.mark();
        let mut stranger = bound_to("127.0.0.3", door);
        stranger.write_all(&header([203, 0, 113, 9])).unwrap();
        ends(stranger);
        let code = match door == plane.devices {
            true => "not-tls",
            false => "proxy-header-unexpected",
        };
        let line = plane.lines.wait_for(mark, code);
        assert!(line.contains("127.0.0.3:"), "{line}");
        // A balancer without its header: of the first version, none, or one that cannot be.
        let mut too_long = header([203, 0, 113, 9]);
        too_long[14] = 0xff;
        for (said, code) in [
            (
                b"PROXY TCP4 203.0.113.9 127.0.0.1 1 2\r\n".to_vec(),
                "proxy-header-missing",
            ),
            (b"\x16\x03\x01\x02\x00".to_vec(), "proxy-header-missing"),
            (too_long, "proxy-header-malformed"),
        ] {
            let mark = plane.lines.mark();
            let mut balancer = bound_to(BALANCER, door);
            balancer.write_all(&said).unwrap();
            ends(balancer);
            plane.lines.wait_for(mark, code);
        }
        // And with one, byte by byte, whoever is behind it is the peer.
        let mark = plane.lines.mark();
        let mut balancer = bound_to(BALANCER, door);
        for byte in header([203, 0, 113, 9]).iter().chain(b"no TLS at all\r\n") {
            balancer.write_all(&[*byte]).unwrap();
        }
        ends(balancer);
        let line = plane.lines.wait_for(mark, "not-tls");
        assert!(line.contains("203.0.113.9:4660"), "{line}");
    }
}

/// Our side closes it, with or without a word.
fn ends(mut connection: TcpStream) {
    let mut word = Vec::new();
    let _ = connection.read_to_end(&mut word);
}

#[test]
fn a_balancer_that_asks_whether_we_live_is_answered_for_itself() {
    if !have(&["openssl"]) {
        return;
    }
    let (home, plane) = scene();
    // LOCAL, without addresses; then TLS as any client.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let door = plane.devices;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (client, _) = listener.accept().unwrap();
            let mut to_plane = bound_to(BALANCER, door);
            to_plane
                .write_all(b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00")
                .unwrap();
            let (mut back, mut from_plane) =
                (client.try_clone().unwrap(), to_plane.try_clone().unwrap());
            let answers = std::thread::spawn(move || std::io::copy(&mut from_plane, &mut back));
            let mut client = client;
            let _ = std::io::copy(&mut client, &mut to_plane);
            let _ = to_plane.shutdown(std::net::Shutdown::Write);
            let _ = answers.join();
        });
        let target = format!("127.0.0.1:{port}");
        let arguments = [
            "s_client",
            "-connect",
            &target,
            "-servername",
            "localhost",
            "-CAfile",
            "root.pem",
            "-verify_return_error",
        ];
        let ran = openssl(&home, &arguments, b"");
        assert!(
            ran.text().contains("Verify return code: 0 (ok)"),
            "{}",
            ran.text()
        );
    });
}
