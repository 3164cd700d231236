use super::*;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::gettid;
use proptest::prelude::*;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::mpsc::channel;
use std::time::Duration;

fn ip(arguments: &str) -> bool {
    let arguments = arguments.split(' ');
    Command::new("ip")
        .args(arguments)
        .status()
        .is_ok_and(|status| status.success())
}

/// Runs `test` in a network namespace with a neighbour at 10.9.0.2, whose namespace is another
/// thread's; that one listens on TCP 8883 and 2222. `None`, with a message, where this machine does
/// not allow it.
fn beside_a_neighbour(test: impl FnOnce() + Send) -> Option<()> {
    let (tid_out, tid_in) = channel();
    let (go_out, go_in) = channel::<()>();
    let (up_out, up_in) = channel::<()>();
    let (end_out, end_in) = channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            if unshare(CloneFlags::CLONE_NEWNET).is_err() {
                return;
            }
            tid_out.send(gettid()).unwrap();
            if go_in.recv().is_err() {
                return;
            }
            assert!(ip("addr add 10.9.0.2/24 dev v1") && ip("link set v1 up"));
            let _doors = [8883, 2222].map(|port| TcpListener::bind(("10.9.0.2", port)).unwrap());
            up_out.send(()).unwrap();
            let _ = end_in.recv();
        });
        let device = scope.spawn(move || {
            let neighbour = tid_in.recv().ok()?;
            unshare(CloneFlags::CLONE_NEWNET).ok()?;
            let made = ip("link add v0 type veth peer name v1")
                && ip(&format!("link set v1 netns {neighbour}"))
                && ip("addr add 10.9.0.1/24 dev v0")
                && ip("link set v0 up")
                && ip("link set lo up");
            if !made {
                return None;
            }
            go_out.send(()).ok()?;
            up_in.recv().ok()?;
            test();
            drop(end_out);
            Some(())
        });
        let done = device.join().unwrap();
        if done.is_none() {
            println!("skipped: network namespaces cannot be made here");
        }
        done
    })
}

fn reaches(port: u16) -> bool {
    let to = SocketAddr::from(([10, 9, 0, 2], port));
    TcpStream::connect_timeout(&to, Duration::from_millis(1500)).is_ok()
}

#[test]
fn every_packet_out_is_counted_even_the_one_that_no_poll_would_see() {
    beside_a_neighbour(|| {
        let Ok(mut table) = Table::make() else {
            println!("skipped: nftables is not permitted here");
            return;
        };
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.send_to(&[7; 972], "10.9.0.77:9999").unwrap();
        assert!(reaches(2222));
        let counted = table.counted().unwrap();
        let udp = Counted {
            protocol: Transport::Udp,
            address: [10, 9, 0, 77].into(),
            port: 9999,
            bytes_out: 1000,
        };
        assert!(counted.contains(&udp), "{counted:?}");
        assert!(counted.iter().any(|one| one.protocol == Transport::Tcp
            && one.address == IpAddr::from([10, 9, 0, 2])
            && one.port == 2222));
    });
}

#[test]
fn the_fence_leaves_the_plane_and_nothing_else_and_can_be_lifted() {
    beside_a_neighbour(|| {
        let Ok(mut table) = Table::make() else {
            println!("skipped: nftables is not permitted here");
            return;
        };
        let plane = [SocketAddr::from(([10, 9, 0, 2], 8883))];
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let standing = TcpStream::connect("10.9.0.2:2222").unwrap();
        table.fence(&plane, false).unwrap();
        assert!(reaches(8883) && !reaches(2222));
        assert!(socket.send_to(b"x", "10.9.0.2:53").is_err());
        // Replaced, not added to.
        let other = [SocketAddr::from(([10, 9, 0, 2], 2222))];
        table.fence(&other, true).unwrap();
        assert!(!reaches(8883) && reaches(2222));
        table.lift().unwrap();
        assert!(reaches(8883) && reaches(2222));
        assert!(socket.send_to(b"x", "10.9.0.2:53").is_ok());
        table.fence(&plane, false).unwrap();
        table.lift().unwrap();
        drop(standing);
    });
}

#[test]
fn the_table_goes_when_the_agent_goes() {
    beside_a_neighbour(|| {
        for _ in 0..2 {
            let Ok(table) = Table::make() else {
                println!("skipped: nftables is not permitted here");
                return;
            };
            // A second one of the same name is refused as long as the first lives.
            assert!(Table::make().is_err());
            drop(table);
        }
    });
}

proptest! {
    #[test]
    fn no_element_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        counted(&bytes, 2);
        counted(&bytes, 10);
    }
}
