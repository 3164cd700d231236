//! How much CPU a server used: the kernel's own account of its control group, or the sum over
//! its tasks where there is none.

use anyhow::{Context, bail, ensure};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Where a server's CPU time is kept. Made before the server starts, so that nothing is missed;
/// dropped after it ended, because only an empty group can be removed.
#[derive(Debug)]
pub enum Account {
    /// `cpu.stat`, `usage_usec`.
    CgroupV2(PathBuf),
    /// `cpuacct.usage`, nanoseconds.
    CgroupV1(PathBuf),
    /// `/proc/<pid>/task/*`: misses what ends between two readings, so a reading checks for it.
    Tasks,
}

/// CPU time of a server so far, to be subtracted from a later one.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    micros: f64,
    /// Per task, where there is no group to ask.
    tasks: BTreeMap<u32, f64>,
}

impl Account {
    /// The best account this machine lets us open.
    pub fn open() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "fleetward-bench-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        candidates(&read("/proc/self/mounts"), &read("/proc/self/cgroup"))
            .into_iter()
            .find_map(|(version, folder)| {
                let group = folder.join(&name);
                std::fs::create_dir(&group).ok()?;
                let account = match version {
                    Version::V2 => Self::CgroupV2(group),
                    Version::V1 => Self::CgroupV1(group),
                };
                // Dropping an account that cannot be read removes its folder again.
                account.read(0).is_ok().then_some(account)
            })
            .unwrap_or(Self::Tasks)
    }

    /// The same command, inside the group from its first instruction. The process id is that of
    /// the program, not of a shell. Where `setpriv` is there, the program dies with us however we
    /// end: a server left over would spoil the next measurement.
    pub fn enclose(&self, program: &Path, arguments: &[&std::ffi::OsStr]) -> Command {
        let (Self::CgroupV2(group) | Self::CgroupV1(group)) = self else {
            let mut command = Command::new(program);
            command.args(arguments);
            return command;
        };
        let mut command = Command::new("/bin/sh");
        command
            .arg("-c")
            .arg(
                "echo $$ > \"$1/cgroup.procs\" && shift || exit 1
                 command -v setpriv >/dev/null && exec setpriv --pdeathsig KILL \"$@\"
                 exec \"$@\"",
            )
            .arg("sh")
            .arg(group)
            .arg(program)
            .args(arguments);
        command
    }

    /// # Errors
    /// If the kernel's file is gone or has another shape.
    pub fn read(&self, pid: u32) -> anyhow::Result<Reading> {
        let (micros, tasks) = match self {
            Self::CgroupV2(group) => {
                let text = std::fs::read_to_string(group.join("cpu.stat"))?;
                let micros = usage_of_v2(&text).context("no usage_usec in cpu.stat")?;
                (micros, BTreeMap::new())
            }
            Self::CgroupV1(group) => {
                let text = std::fs::read_to_string(group.join("cpuacct.usage"))?;
                let micros = usage_of_v1(&text).context("no number in cpuacct.usage")?;
                (micros, BTreeMap::new())
            }
            Self::Tasks => {
                let tasks = tasks_of(pid)?;
                (tasks.values().sum(), tasks)
            }
        };
        Ok(Reading { micros, tasks })
    }

    /// How this account is named in a report.
    pub fn name(&self) -> &'static str {
        match self {
            Self::CgroupV2(_) => "cgroup v2 cpu.stat",
            Self::CgroupV1(_) => "cgroup v1 cpuacct.usage",
            Self::Tasks => "sum over /proc tasks",
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if let Self::CgroupV2(group) | Self::CgroupV1(group) = self {
            // rmdir fails with EBUSY while the kernel still reaps the last task.
            for _ in 0..50 {
                if std::fs::remove_dir(&*group).is_ok() {
                    return;
                }
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            eprintln!(
                "could not remove {}: a process is left in it",
                group.display()
            );
        }
    }
}

impl Reading {
    /// CPU time between `earlier` and here, in microseconds.
    ///
    /// # Errors
    /// If a task ended in between: what it used since `earlier` is lost, so the sum is a lie.
    pub fn since(&self, earlier: &Self) -> anyhow::Result<f64> {
        for task in earlier.tasks.keys() {
            ensure!(
                self.tasks.contains_key(task),
                "task {task} ended during the measurement and took its CPU time with it; \
                 run as root so that a control group keeps the account"
            );
        }
        let used = self.micros - earlier.micros;
        ensure!(used >= 0.0, "CPU time went backwards by {used} µs");
        Ok(used)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

/// Where a group may be made, best first, from `/proc/self/mounts` and `/proc/self/cgroup`.
/// Inside a container our own path may not be visible: then the mount's top is tried.
fn candidates(mounts: &str, own: &str) -> Vec<(Version, PathBuf)> {
    let mut found = Vec::new();
    for line in mounts.lines() {
        let mut fields = line.split(' ').skip(1);
        let (Some(folder), Some(kind), Some(options)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let is_cpuacct = options.split(',').any(|option| option == "cpuacct");
        let version = match kind {
            "cgroup2" => Version::V2,
            "cgroup" if is_cpuacct => Version::V1,
            _ => continue,
        };
        let path = own.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (controllers, path) = (parts.next()?, parts.next()?);
            match version {
                Version::V2 => controllers.is_empty(),
                Version::V1 => controllers.split(',').any(|name| name == "cpuacct"),
            }
            .then_some(path)
        });
        if let Some(path) = path.map(|path| path.trim_start_matches('/')) {
            found.push((version, Path::new(folder).join(path)));
        }
        found.push((version, PathBuf::from(folder)));
    }
    // A v2 tree beside v1 (a hybrid machine) carries no account per group on older kernels, but
    // then its cpu.stat is missing and opening goes on to v1.
    found.sort_by_key(|(version, _)| *version == Version::V1);
    found.dedup();
    found
}

fn usage_of_v2(text: &str) -> Option<f64> {
    text.lines()
        .find_map(|line| line.strip_prefix("usage_usec "))?
        .trim()
        .parse()
        .ok()
}

fn usage_of_v1(text: &str) -> Option<f64> {
    Some(text.trim().parse::<f64>().ok()? / 1000.0)
}

fn tasks_of(pid: u32) -> anyhow::Result<BTreeMap<u32, f64>> {
    let folder = PathBuf::from(format!("/proc/{pid}/task"));
    let mut tasks = BTreeMap::new();
    for entry in std::fs::read_dir(&folder).context("the server has ended")? {
        let entry = entry?;
        let Some(task) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let read = |name| std::fs::read_to_string(entry.path().join(name)).unwrap_or_default();
        let Some(micros) =
            usage_of_schedstat(&read("schedstat")).or_else(|| usage_of_stat(&read("stat")))
        else {
            bail!("task {task} of {pid} ended while it was read");
        };
        tasks.insert(task, micros);
    }
    Ok(tasks)
}

/// First field: nanoseconds on a CPU.
fn usage_of_schedstat(text: &str) -> Option<f64> {
    let nanos: f64 = text.split_whitespace().next()?.parse().ok()?;
    Some(nanos / 1000.0)
}

/// Fields 14 and 15, user and system time in ticks of 10 ms. The name in field 2 may hold spaces
/// and brackets, so counting starts after the last one.
fn usage_of_stat(text: &str) -> Option<f64> {
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) * 10_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_v2_machine_is_asked_below_our_own_group_first() {
        let found = candidates(
            "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\nproc /proc proc rw 0 0\n",
            "0::/user.slice/x.scope\n",
        );
        assert_eq!(
            found,
            [
                (Version::V2, "/sys/fs/cgroup/user.slice/x.scope".into()),
                (Version::V2, "/sys/fs/cgroup".into()),
            ]
        );
    }

    #[test]
    fn a_hybrid_machine_offers_v2_then_v1() {
        let found = candidates(
            "cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n\
             cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0\n\
             cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n",
            "4:memory:/m\n2:cpu,cpuacct:/\n0::/\n",
        );
        assert_eq!(
            found,
            [
                (Version::V2, "/sys/fs/cgroup/unified".into()),
                (Version::V1, "/sys/fs/cgroup/cpu,cpuacct".into()),
            ]
        );
    }

    #[test]
    fn a_machine_without_groups_offers_none() {
        assert!(candidates("proc /proc proc rw 0 0\ngarbage", "").is_empty());
    }

    #[test]
    fn each_account_is_read_in_microseconds() {
        let v2 = "usage_usec 1234567\nuser_usec 1000000\nsystem_usec 234567\n";
        assert_eq!(usage_of_v2(v2), Some(1_234_567.0));
        assert_eq!(usage_of_v2("user_usec 1\n"), None);
        assert_eq!(usage_of_v1("1234567000\n"), Some(1_234_567.0));
        assert_eq!(usage_of_schedstat("5000000 17 3\n"), Some(5000.0));
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 12 30 0 0 20 0 3 0 1\n";
        assert_eq!(usage_of_stat(stat), Some(420_000.0));
        assert_eq!(usage_of_stat(""), None);
    }

    #[test]
    fn a_task_that_ended_spoils_the_sum() {
        let reading = |tasks: &[(u32, f64)]| Reading {
            micros: tasks.iter().map(|(_, micros)| micros).sum(),
            tasks: tasks.iter().copied().collect(),
        };
        let before = reading(&[(1, 10.0), (2, 5.0)]);
        assert_eq!(
            reading(&[(1, 20.0), (2, 6.0), (3, 1.0)])
                .since(&before)
                .unwrap(),
            12.0
        );
        assert!(reading(&[(1, 90.0)]).since(&before).is_err());
    }

    #[test]
    fn this_machine_keeps_an_account_of_a_child_and_forgets_it_afterwards() {
        let account = Account::open();
        let group = match &account {
            Account::CgroupV2(group) | Account::CgroupV1(group) => Some(group.clone()),
            Account::Tasks => None,
        };
        let burn = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo done; read x";
        let mut child = account
            .enclose(Path::new("/bin/sh"), &["-c".as_ref(), burn.as_ref()])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(
            &mut std::io::BufReader::new(child.stdout.as_mut().unwrap()),
            &mut line,
        )
        .unwrap();
        let used = account.read(child.id()).unwrap();
        assert!(used.micros > 0.0, "{}: {used:?}", account.name());
        drop(child.stdin.take());
        child.wait().unwrap();
        drop(account);
        assert!(group.is_none_or(|group| !group.exists()));
    }
}
