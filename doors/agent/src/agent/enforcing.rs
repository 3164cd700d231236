//! Our own rules of destinations: asked of the plane, kept, put into the table, and watched.

use super::{Agent, pause, random, say};
use crate::destinations::{Rules, resolvers};
use crate::est::Est;
use crate::failure::Failure;
use detection::report::Report;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

const FILE: &str = "own-rules.json";
pub(super) const ASK_EVERY: Duration = Duration::from_secs(900);
const NAMES_EVERY: Duration = Duration::from_secs(300);

impl Agent {
    /// What the plane said before we were started holds from the first moment.
    pub(super) fn take_kept_rules(&mut self) {
        if !self.config.enforce_destinations {
            return;
        }
        if let Ok(Some(bytes)) = self.folder.read(FILE) {
            self.rules = Rules::read(&bytes);
        }
        if let Some(rules) = &mut self.rules {
            rules.resolve(Instant::now());
        }
        self.enforce();
    }

    /// Asks the plane, and the names, when it is time.
    pub(super) fn see_to_rules(&mut self, now: Instant) -> Result<(), Failure> {
        if !self.config.enforce_destinations {
            return Ok(());
        }
        let is_open = self.link.as_ref().is_some_and(super::Link::is_open);
        if is_open && now >= self.next_rules {
            match self.ask_rules() {
                Err(Failure::Stopped) => return Err(Failure::Stopped),
                // Without any, nothing is enforced: it is asked again soon.
                Err(failure) => {
                    self.next_rules = Instant::now() + pause(&mut self.rules_backoff);
                    self.trouble(&format!("the plane did not say its rules: {failure}"));
                }
                Ok(()) => {
                    let share = f64::from(random::bits()) / f64::from(u32::MAX) / 10.0;
                    self.next_rules = now + ASK_EVERY - ASK_EVERY.mul_f64(share);
                    self.rules_backoff.reset();
                }
            }
            self.next_names = now;
        }
        if now >= self.next_names {
            self.next_names = now + NAMES_EVERY;
            if let Some(rules) = &mut self.rules {
                rules.resolve(now);
            }
            self.enforce();
        }
        Ok(())
    }

    fn ask_rules(&mut self) -> Result<(), Failure> {
        let Some(credential) = self.life.newest() else {
            return Ok(());
        };
        let est = Est {
            door: &self.config.est,
            trust: &self.trust,
            waiting: &self.waiting,
        };
        let bytes = est.own_rules(&credential.certified, &mut self.clock)?;
        let mut rules =
            Rules::read(&bytes).ok_or(Failure::Protocol("rules that cannot be read"))?;
        if let Some(before) = self.rules.take() {
            rules.remember(before);
        }
        self.rules = Some(rules);
        if let Err(error) = self.folder.write(FILE, &bytes) {
            self.trouble(&format!("the plane's rules cannot be kept ({error})"));
        }
        Ok(())
    }

    /// Puts what the plane said into the table, as names mean now. Whatever fails is said in the next
    /// report; what stood before then stands.
    pub(super) fn enforce(&mut self) {
        if !self.config.enforce_destinations {
            return;
        }
        let Some(rules) = &self.rules else {
            self.enforcement = Some("the plane has not said its rules yet".to_owned());
            return;
        };
        let passages = rules.passages();
        let mut doors = self.doors.clone();
        doors.extend(self.resolved_doors());
        doors.sort();
        doors.dedup();
        let asked = self.resolvers();
        let Some(table) = &mut self.table else {
            self.enforcement =
                Some("nftables is not permitted here (CAP_NET_ADMIN is needed)".to_owned());
            return;
        };
        let made = (table.grant(&doors, &asked, &passages, self.granted > 0))
            .and_then(|()| table.granted());
        match made {
            Ok(count) => {
                if self.granted != count {
                    self.next_status = Instant::now();
                }
                self.granted = count;
                self.enforcement = None;
            }
            Err(error) => {
                let words = format!("the kernel did not take the rules ({error})");
                say(&words);
                self.enforcement = Some(words);
            }
        }
    }

    /// Whom this device asks for names.
    pub(super) fn resolvers(&self) -> Vec<IpAddr> {
        let mut asked = resolvers();
        asked.extend(self.config.dns.as_ref().map(|dns| dns.upstream.ip()));
        asked
    }

    pub(super) fn resolved_doors(&self) -> Vec<SocketAddr> {
        let doors = [&self.config.mqtt, &self.config.est].into_iter();
        doors
            .flat_map(|door| {
                (door.host.as_str(), door.port)
                    .to_socket_addrs()
                    .into_iter()
                    .flatten()
            })
            .collect()
    }

    /// Says truly whether destinations are enforced in this device, and by how much too widely. Rules
    /// that somebody took from the kernel are made again, and that is said too.
    pub(super) fn tell_enforcement(&mut self, report: &mut Report) {
        if !self.config.enforce_destinations {
            report
                .unseen
                .push("enforcement: turned off in the configuration".to_owned());
            return;
        }
        if self.granted > 0 {
            let held = self.table.as_mut().map(crate::nft::Table::granted);
            if !matches!(held, Some(Ok(count)) if count == self.granted) {
                report.unseen.push(
                    "enforcement: the device's own rules were taken away, and are made again"
                        .to_owned(),
                );
                say("our own rules were taken away; they are made again");
                self.granted = 0;
                // Only a new table can be sure of itself.
                self.table = None;
                self.table = super::make_table(&self.config);
                self.fenced = false;
                self.fence();
                self.enforce();
            }
        }
        if self.granted > 0 && self.enforcement.is_none() {
            report
                .seen_by
                .insert("enforcement".to_owned(), "nft".to_owned());
        }
        if let Some(why) = &self.enforcement {
            report.unseen.push(format!("enforcement: {why}"));
        }
        let widened = self.rules.as_ref().map_or(0, Rules::widened);
        if self.granted > 0 && widened > 0 {
            report.unseen.push(format!(
                "enforcement: {widened} rules name peers that only the site knows; any private address \
                 is let through for them"
            ));
        }
    }
}
