//! How much of the machine others used meanwhile: said beside every figure, since it is in them.

/// Clock ticks so far, of all processors.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Machine {
    all: u64,
    idle: u64,
    /// Of this process and of those of its children that have ended.
    ours: u64,
}

impl Machine {
    /// `None`: the kernel does not say.
    pub fn look() -> Option<Self> {
        let read = |path| std::fs::read_to_string(path).ok();
        Self::read(&read("/proc/stat")?, &read("/proc/self/stat")?)
    }

    fn read(machine: &str, own: &str) -> Option<Self> {
        // User, nice, system, idle, waiting for disks, interrupts, soft ones, stolen.
        let line = machine.lines().next()?.strip_prefix("cpu ")?;
        let ticks: Vec<u64> = line
            .split_whitespace()
            .take(8)
            .map(|field| field.parse().ok())
            .collect::<Option<_>>()?;
        // Fields 14 to 17; the name in field 2 may hold spaces and brackets.
        let (_, rest) = own.rsplit_once(')')?;
        let used = rest.split_whitespace().skip(11).take(4);
        let ours = used
            .map(|field| field.parse::<u64>().ok())
            .sum::<Option<u64>>()?;
        Some(Self {
            all: ticks.iter().sum(),
            idle: ticks.get(3)? + ticks.get(4)?,
            ours,
        })
    }

    /// Which share of the machine others used since `earlier`. What still runs of ours counts as
    /// theirs, so ask when everything has ended.
    pub fn used_by_others_since(&self, earlier: &Self) -> f64 {
        let all = self.all.saturating_sub(earlier.all);
        let idle = self.idle.saturating_sub(earlier.idle);
        let ours = self.ours.saturating_sub(earlier.ours);
        let theirs = all.saturating_sub(idle).saturating_sub(ours);
        theirs as f64 / (all.max(1)) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_are_who_is_neither_idle_nor_ours() {
        let own = |ticks| format!("7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 {ticks} 5 3 2 20 0 3 0\n");
        let before = Machine::read("cpu  100 0 50 800 50 0 0 0 0 0\ncpu0 1\n", &own(10)).unwrap();
        let after = Machine::read("cpu  150 0 60 830 60 0 0 0 0 0\n", &own(40)).unwrap();
        assert_eq!((before.all, before.idle, before.ours), (1000, 850, 20));
        assert_eq!(after.used_by_others_since(&before), 0.3);
        assert_eq!(before.used_by_others_since(&before), 0.0);
        assert!(Machine::read("intr 1\n", "").is_none());
        assert!(Machine::look().is_none_or(|here| here.all > 0));
    }
}
