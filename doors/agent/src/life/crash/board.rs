//! The device: this agent's life, keyring, folder and clock, and what the loop does with them.

use super::plane::Plane;
use crate::clock::{Clock, simulated};
use crate::credential::Credential;
use crate::failure::Failure;
use crate::folder::Folder;
use crate::life::{Life, Step};
use crate::roots::Roots;
use identity::certificate_id;
use model::{CertificateId, DeviceId, Timestamp};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What the device's own clock does.
#[derive(Debug, Clone, Copy)]
pub enum Rtc {
    Right,
    /// Begins in 1970 at each start.
    SinceStart,
    Ahead(Duration),
}

pub struct Board {
    path: PathBuf,
    device: DeviceId,
    idevid: Credential,
    rtc: Rtc,
    /// What it came with.
    root: Vec<u8>,
    /// `None` while it is off.
    running: Option<Running>,
    cut_after: Option<u32>,
    /// The certificate that opened a session last.
    opened: Option<CertificateId>,
    /// By the world's clock, for the steady one.
    origin: (Timestamp, Instant),
}

struct Running {
    folder: Folder,
    life: Life,
    roots: Roots,
    /// It looks at the plane's list next.
    next_roots: Timestamp,
    clock: Clock,
    since: Timestamp,
    is_connected: bool,
}

impl std::fmt::Debug for Board {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let newest = self.running.as_ref().and_then(|one| one.life.newest());
        write!(f, "{:?}, holds {newest:?}", self.rtc)
    }
}

impl Board {
    pub fn new(path: &Path, device: DeviceId, idevid: Credential, root: Vec<u8>, rtc: Rtc) -> Self {
        Self {
            path: path.to_owned(),
            device,
            idevid,
            rtc,
            root,
            running: None,
            cut_after: None,
            opened: None,
            origin: (super::START, Instant::now()),
        }
    }

    /// The power goes after so many steps of its disk.
    pub fn cut_after(&mut self, steps: u32) {
        self.cut_after = Some(steps);
        if let Some(running) = &self.running {
            running.folder.power.set(Some(steps));
        }
    }

    pub fn switch_off(&mut self) {
        self.running = None;
    }

    pub fn is_connected(&self) -> bool {
        self.running.as_ref().is_some_and(|one| one.is_connected)
    }

    /// The newest that it holds, once it is on.
    pub fn newest(&self) -> Option<CertificateId> {
        let newest = self.running.as_ref()?.life.newest()?;
        Some(certificate_id(newest.certificate()).unwrap())
    }

    /// Whether its disk holds the certificate that opened a session last: nothing retires before its
    /// successor is proven.
    pub fn keeps_what_is_proven(&self) -> bool {
        let files = std::fs::read_dir(&self.path).unwrap();
        let held = files.filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            let is_ours = name.starts_with("ldevid-") && name.ends_with(".pem");
            let pem = std::fs::read(self.path.join(name))
                .ok()
                .filter(|_| is_ours)?;
            certificate_id(Credential::read(&pem, &pem).ok()?.certificate()).ok()
        });
        self.opened
            .is_none_or(|opened| held.into_iter().any(|id| id == opened))
    }

    /// At which step its power went, if it did: it is off now, and its disk is as it was left.
    pub fn fallen(&mut self) -> Option<String> {
        let step = self.running.as_ref()?.folder.cut.borrow().clone()?;
        self.running = None;
        self.cut_after = None;
        Some(step)
    }

    pub fn lose_session(&mut self) {
        if let Some(running) = &mut self.running {
            running.is_connected = false;
        }
    }

    /// The plane ends the session of what is no longer good.
    pub fn session_holds(&mut self, plane: &Plane, now: Timestamp) {
        let newest = self.newest();
        if let Some(running) = &mut self.running {
            running.is_connected &= newest.is_some_and(|id| plane.valid(now).contains(&id));
        }
    }

    /// What the loop does while it is due, within the hour.
    pub fn turn(&mut self, plane: &mut Plane, now: Timestamp) {
        self.set_clocks(now);
        if self.running.is_none() && self.start(plane, now).is_err() {
            return;
        }
        self.see_to_roots(plane, now);
        // One obtains, one connects, and once more after a refusal.
        for _ in 0..4 {
            if self.step(plane, now).is_none() {
                break;
            }
        }
        if let Some(running) = &mut self.running {
            let _ = running.clock.keep(&running.folder);
        }
    }

    fn start(&mut self, plane: &Plane, now: Timestamp) -> anyhow::Result<()> {
        let folder = Folder::open(&self.path)?;
        folder.power.set(self.cut_after);
        let mut clock = Clock::open(&folder)?;
        // It asks the plane for the time, and does without where nobody answers.
        if plane.is_up() && !(now.as_seconds() / 3600).is_multiple_of(3) {
            clock.hear(now);
        }
        let mut life = Life::open(&folder)?;
        life.plan_renewal(u32::MAX / 2, None);
        let roots = Roots::open(&folder, vec![self.root.clone()])?;
        self.running = Some(Running {
            folder,
            life,
            roots,
            next_roots: now,
            clock,
            since: now,
            is_connected: false,
        });
        self.set_clocks(now);
        Ok(())
    }

    /// Twice a day, and after each renewal: what the agent does with the plane's list of roots.
    fn see_to_roots(&mut self, plane: &mut Plane, now: Timestamp) {
        let Some(running) = &mut self.running else {
            return;
        };
        if now < running.next_roots {
            return;
        }
        let Running {
            folder,
            roots,
            clock,
            next_roots,
            ..
        } = running;
        let seen = roots.see(folder, clock, |by, clock| {
            let unreachable = || Failure::Unreachable(std::io::ErrorKind::ConnectionReset.into());
            let known = plane.is_up() && plane.tree.is_known_by(by, now);
            let list = if known {
                plane.cacerts()
            } else {
                Err(unreachable())
            };
            if list.is_ok() {
                clock.hear(now);
            }
            list
        });
        if seen.is_ok() && plane.hear_roots(roots.digests()).is_ok() {
            *next_roots = now.plus(Duration::from_secs(12 * 3600));
        }
    }

    /// What it believes, once it is on.
    pub fn roots(&self) -> Option<&Roots> {
        self.running.as_ref().map(|one| &one.roots)
    }

    /// `None`: nothing more can be done now.
    fn step(&mut self, plane: &mut Plane, now: Timestamp) -> Option<()> {
        let running = self.running.as_mut()?;
        let Running {
            folder,
            life,
            clock,
            is_connected,
            roots,
            next_roots,
            ..
        } = running;
        if plane.is_up() && !plane.tree.is_known_by(roots.store(), now) {
            // No handshake: as if the plane were not there.
            return None;
        }
        match life.next(clock.now(), clock.told(), *is_connected) {
            Step::Rest(_) => None,
            Step::Obtain(by) => {
                let obtained =
                    life.obtain(folder, &self.device, &self.idevid, by, |shown, request| {
                        let shown = shown.cert.first().map_or(&[][..], |der| der.as_ref());
                        let answer = plane.enroll(shown, request, by, now);
                        if !matches!(answer, Err(Failure::Unreachable(_))) {
                            clock.hear(now);
                        }
                        answer.map(|der| vec![der])
                    });
                match obtained {
                    Ok(()) => {
                        clock.raise(life.newest()?.not_before);
                        life.plan_renewal(
                            u32::try_from(now.as_seconds() % 4_000_000_000).ok()?,
                            None,
                        );
                        // The old session ends before the new one begins.
                        *is_connected = false;
                        *next_roots = now;
                        Some(())
                    }
                    // A renewal waits for its next try; else what it has is tried all the same.
                    Err(_) => (!*is_connected && life.newest().is_some()).then_some(()),
                }
            }
            Step::Connect => {
                let opened = plane.connect(life.newest()?.certificate(), now);
                match opened {
                    Ok(()) => {
                        *is_connected = true;
                        self.opened = certificate_id(life.newest()?.certificate()).ok();
                        life.opened(folder).ok().map(drop)
                    }
                    Err(failure) if failure.refuses_certificate() => {
                        life.refused(folder).ok()?;
                        Some(())
                    }
                    Err(_) => None,
                }
            }
        }
    }

    fn set_clocks(&self, now: Timestamp) {
        let (begun, steady) = self.origin;
        let since = self.running.as_ref().map_or(now, |one| one.since);
        let system = match self.rtc {
            Rtc::Right => now,
            Rtc::SinceStart => Timestamp::from_seconds(0).plus(now.since(since)),
            Rtc::Ahead(by) => now.plus(by),
        };
        simulated::CLOCKS.set(Some((system, steady + now.since(begun))));
    }
}
