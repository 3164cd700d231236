//! Obeying the plane when it cuts the device off: the duties stop, our own fence goes up, and all of
//! it is kept. What cuts off is in force before it is kept; what gives back is kept before it is in
//! force.

use super::{Agent, say};
use crate::config::Config;
use crate::containment::Kept;
use crate::nft::Table;
use model::Containment;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

/// What an earlier run has left is in force again before anything of this one speaks. True if our own
/// fence stands.
pub(super) fn resume(config: &Config, kept: &Kept, table: Option<&mut Table>) -> bool {
    let Some(degree) = kept.containment else {
        return false;
    };
    say(&format!(
        "{} before this start, and still so",
        degree.name()
    ));
    let Some(table) = table.filter(|_| config.enforce_locally) else {
        return false;
    };
    let fenced = table.fence(&doors_before_any(config, kept), &[], false);
    if let Err(error) = &fenced {
        say(&format!("own rules of quarantine cannot be made ({error})"));
    }
    fenced.is_ok()
}

/// The plane's doors as far as they are known before the first session: where they are named by
/// address, and where a device that was cut off had reached them. What goes there is never news.
pub(super) fn doors_before_any(config: &Config, kept: &Kept) -> Vec<SocketAddr> {
    let mut doors: Vec<SocketAddr> = [&config.mqtt, &config.est]
        .into_iter()
        .filter_map(|door| Some(SocketAddr::new(door.host.parse().ok()?, door.port)))
        .collect();
    for door in &kept.doors {
        if !doors.contains(door) {
            doors.push(*door);
        }
    }
    doors
}

impl Agent {
    /// Obeys. False if it could not be kept: whoever said it is not told that we have it. A device that
    /// is cut off is so all the same, and one that is given back is not yet free.
    pub(super) fn contain(&mut self, containment: Option<Containment>) -> bool {
        if containment.is_none() && !self.keep(None) {
            return false;
        }
        if self.containment != containment {
            match containment {
                Some(degree) => say(&format!("the plane says: {}; duties stop", degree.name())),
                None => say("the plane says: restored; duties go on"),
            }
            self.containment = containment;
            let now = Instant::now();
            for due in &mut self.duties {
                *due = (*due).max(now);
            }
            self.next_status = now;
        }
        self.fence();
        self.keep(containment)
    }

    /// Now and then: what could not be done when it was said, the rules or the writing, is done as soon
    /// as it can be.
    pub(super) fn see_to_containment(&mut self) {
        self.fence();
        self.keep(self.containment);
    }

    fn keep(&mut self, containment: Option<Containment>) -> bool {
        let kept = Kept {
            doors: containment.map_or_else(Vec::new, |_| self.doors.clone()),
            containment,
        };
        if kept == self.kept {
            return true;
        }
        match kept.write(&self.folder) {
            Ok(()) => {
                self.kept = kept;
                true
            }
            Err(error) => {
                self.trouble(&format!("what the plane said cannot be kept ({error})"));
                false
            }
        }
    }

    /// Makes our own rules what they should be. Behind them no resolver can be asked, so the plane is
    /// tried at the addresses that they let through.
    pub(super) fn fence(&mut self) {
        let wanted = self.config.enforce_locally && self.containment.is_some();
        if !wanted && !self.fenced {
            return;
        }
        if self.table.is_none() {
            // Perhaps that of an agent before us stood until now.
            self.table = super::make_table(&self.config);
        }
        let Some(table) = &mut self.table else {
            return;
        };
        let done = if wanted {
            table.fence(&self.doors, &[], self.fenced)
        } else {
            table.lift()
        };
        match done {
            Ok(()) => self.fenced = wanted,
            Err(error) => say(&format!(
                "own rules of quarantine cannot be changed ({error})"
            )),
        }
        self.aim();
    }

    /// Where connections go: to the plane's name, or behind our own fence where that lets them.
    pub(super) fn aim(&mut self) {
        let doors: &[SocketAddr] = if self.fenced { &self.doors } else { &[] };
        let mut reached: Vec<IpAddr> = doors.iter().map(SocketAddr::ip).collect();
        reached.dedup();
        self.trust.reached = reached;
    }

    /// The fence must not lock out a plane that has moved: if the last attempt found nobody, resolvers
    /// may be asked for as long as it takes to ask for its name, and the fence is then put around what
    /// they said. Who answers there must still prove to be the plane.
    pub(super) fn look_for_doors(&mut self) {
        if !self.fenced || !std::mem::take(&mut self.is_lost) {
            return;
        }
        let resolvers = self.resolvers();
        let opened = (self.table.as_mut()).map(|table| table.fence(&self.doors, &resolvers, true));
        let found = match opened {
            Some(Ok(())) => self.resolved_doors(),
            _ => Vec::new(),
        };
        if !found.is_empty() {
            self.doors = found;
        }
        self.fence();
    }
}
