//! For tests: a network of the test's own, with a neighbour in it.

use nix::sched::{CloneFlags, unshare};
use nix::unistd::gettid;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::mpsc::channel;
use std::time::Duration;

/// Runs `test` in a network namespace with a neighbour at 10.9.0.2, whose namespace is another
/// thread's; that one listens on TCP 8883 and 2222. `None`, with a message, where this machine does
/// not allow it.
pub fn beside_a_neighbour(test: impl FnOnce() + Send) -> Option<()> {
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

/// Whether the neighbour can be reached.
pub fn reaches(port: u16) -> bool {
    let to = SocketAddr::from(([10, 9, 0, 2], port));
    TcpStream::connect_timeout(&to, Duration::from_millis(1500)).is_ok()
}

fn ip(arguments: &str) -> bool {
    let arguments = arguments.split(' ');
    Command::new("ip")
        .args(arguments)
        .status()
        .is_ok_and(|status| status.success())
}
