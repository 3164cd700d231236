//! A process that becomes another: it ties itself to the demo's life, takes its place in the
//! network, and then is the program it was started for.
//!
//! `Command` alone cannot do this: what happens between fork and exec needs code of ours there,
//! and code of ours there would be unsafe. So the code runs in a program of its own: this one.

use super::stage;
use anyhow::{Context, bail};
use clap::Args;
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{Pid, getppid};
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead as _, Write as _};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd as _, AsRawFd as _, IntoRawFd as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

/// The first descriptor of systemd's socket activation.
const LISTEN_FD: i32 = 3;

#[derive(Debug, Args)]
pub struct StandIn {
    /// The process that must not be outlived.
    #[arg(long)]
    parent: i32,
    /// Standard input is a listening socket: hand it on as systemd does, under this name.
    #[arg(long)]
    listener: Option<String>,
    /// Take a user and network namespace of its own, say `ready`, wait for a line, and use this
    /// address on the wire that is there by then.
    #[arg(long, conflicts_with_all = ["join", "listener"])]
    own_network: Option<Ipv4Addr>,
    /// Enter the namespaces of this process.
    #[arg(long)]
    join: Option<i32>,
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

impl StandIn {
    /// Returns only if it could not become what it should.
    ///
    /// # Errors
    /// The step that failed.
    pub fn run(&self) -> anyhow::Result<()> {
        let (program, arguments) = self.command.split_first().context("no program")?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null());
        if let Some(address) = self.own_network {
            self.take_network(address)?;
        }
        if let Some(pid) = self.join {
            join(pid).with_context(|| format!("the namespaces of process {pid}"))?;
        }
        if let Some(name) = &self.listener {
            hand_on_listener(&mut command, name)?;
        }
        // The demo holds these back for itself; a program starts with all of them.
        SigSet::all().thread_unblock()?;
        // Last, because a change of credentials clears it.
        self.die_with_parent()?;
        Err(command.exec()).with_context(|| format!("{} cannot run", program.display()))
    }

    fn take_network(&self, address: Ipv4Addr) -> anyhow::Result<()> {
        stage::unshare()?;
        self.die_with_parent()?;
        let mut out = std::io::stdout();
        out.write_all(b"ready\n")?;
        out.flush()?;
        let mut line = String::new();
        if std::io::stdin().lock().read_line(&mut line)? == 0 {
            bail!("the wire never came");
        }
        Ok(stage::raise_wire(address)?)
    }

    fn die_with_parent(&self) -> anyhow::Result<()> {
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        // It may have died before the line above.
        if getppid() != Pid::from_raw(self.parent) {
            bail!("the demo is gone");
        }
        Ok(())
    }
}

fn join(pid: i32) -> anyhow::Result<()> {
    let open = |kind: &str| File::open(format!("/proc/{pid}/ns/{kind}"));
    let (user, network) = (open("user")?, open("net")?);
    setns(user.as_fd(), CloneFlags::CLONE_NEWUSER)?;
    setns(network.as_fd(), CloneFlags::CLONE_NEWNET)?;
    Ok(())
}

/// `sd_listen_fds(3)`: the socket is descriptor 3, and the variables name this very process.
fn hand_on_listener(command: &mut Command, name: &str) -> anyhow::Result<()> {
    let socket = std::io::stdin().as_fd().try_clone_to_owned()?;
    if socket.as_raw_fd() != LISTEN_FD {
        bail!("descriptor {LISTEN_FD} is taken");
    }
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::empty())?;
    // It stays open through the exec.
    let _ = socket.into_raw_fd();
    command
        .env("LISTEN_PID", std::process::id().to_string())
        .env("LISTEN_FDS", "1")
        .env("LISTEN_FDNAMES", name);
    Ok(())
}
