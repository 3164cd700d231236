//! The certificates this device holds, on disk: which one is proven, which one is new, and what
//! was asked for. Every step is one durable write, and whatever a power cut leaves behind, the
//! next start finds a way in: at worst the factory identity.
//!
//! | file | is |
//! |---|---|
//! | `asked.pem` | a key and the request made of it, until its certificate has come |
//! | `ldevid-<n>.pem` | a key and its certificate; the highest `n` is the newest |
//! | `proven` | the `n` that has opened a session |

use crate::credential::{Asked, Credential};
use crate::folder::Folder;
use anyhow::Context;
use model::DeviceId;

const ASKED: &str = "asked.pem";
const PROVEN: &str = "proven";

/// What the state folder holds, read once and kept in step with it.
#[derive(Debug)]
pub struct Keyring {
    /// Ascending.
    held: Vec<(u64, Credential)>,
    proven: Option<u64>,
    /// The first number never used.
    next: u64,
}

impl Keyring {
    /// # Errors
    /// If the folder cannot be read. Files that are damaged are as good as none.
    pub fn open(folder: &Folder) -> anyhow::Result<Self> {
        let mut held = Vec::new();
        let mut next = 1;
        for name in folder
            .names()
            .context("the state folder cannot be listed")?
        {
            let Some(number) = number_of(&name) else {
                continue;
            };
            next = next.max(number.saturating_add(1));
            let pem = folder.read(&name)?.map(zeroize::Zeroizing::new);
            if let Some(credential) = pem.and_then(|pem| Credential::read(&pem, &pem).ok()) {
                held.push((number, credential));
            }
        }
        held.sort_by_key(|(number, _)| *number);
        let proven = folder
            .read(PROVEN)?
            .and_then(|bytes| String::from_utf8(bytes).ok()?.trim().parse().ok())
            .filter(|number| held.iter().any(|(held, _)| held == number));
        Ok(Self { held, proven, next })
    }

    /// The one to connect with: the newest, until it is refused.
    pub fn newest(&self) -> Option<&Credential> {
        self.held.last().map(|(_, credential)| credential)
    }

    /// The one that has opened a session, or the only one there is.
    pub fn present(&self) -> Option<&Credential> {
        let proven = self
            .held
            .iter()
            .find(|(number, _)| Some(*number) == self.proven);
        proven
            .or(self.held.last())
            .map(|(_, credential)| credential)
    }

    /// True if the newest has not opened a session yet, and an older one has.
    pub fn is_unproven(&self) -> bool {
        let newest = self.held.last().map(|(number, _)| *number);
        self.proven.is_some() && newest != self.proven
    }

    /// A key and a request, kept until they are answered: the same bytes are asked again after a
    /// power cut, and while a person decides (RFC 7030 section 4.2.3).
    ///
    /// # Errors
    /// If the key cannot be made or kept.
    pub fn ask(&self, folder: &Folder, device: &DeviceId, again: bool) -> anyhow::Result<Asked> {
        let kept = folder.read(ASKED)?.map(zeroize::Zeroizing::new);
        let kind = if again { "renewal\n" } else { "enrollment\n" };
        if let Some(asked) = kept
            .as_deref()
            .and_then(|pem| Asked::read(pem.strip_prefix(kind.as_bytes())?).ok())
        {
            return Ok(asked);
        }
        let asked = match self.present().filter(|_| again) {
            Some(present) => Asked::next(present)?,
            None => Asked::first(device)?,
        };
        let text = zeroize::Zeroizing::new(format!("{kind}{}", *asked.pem()));
        folder.write(ASKED, text.as_bytes())?;
        Ok(asked)
    }

    /// Forgets what was asked: it was refused, and the next request is made anew.
    ///
    /// # Errors
    /// If the file cannot be removed.
    pub fn forget_asked(&self, folder: &Folder) -> anyhow::Result<()> {
        Ok(folder.remove(ASKED)?)
    }

    /// Takes the answer in: durable before it is used, and not yet trusted to open a door.
    ///
    /// # Errors
    /// If no certificate fits the key, or it cannot be kept.
    pub fn take(
        &mut self,
        folder: &Folder,
        asked: &Asked,
        issued: &[Vec<u8>],
    ) -> anyhow::Result<()> {
        let (credential, pem) = asked.answered(issued)?;
        folder.write(&file(self.next), pem.as_bytes())?;
        let proven = self.proven;
        for (number, _) in self
            .held
            .extract_if(.., |(number, _)| Some(*number) != proven)
        {
            folder.remove(&file(number))?;
        }
        self.held.push((self.next, credential));
        self.next = self.next.saturating_add(1);
        folder.remove(ASKED)?;
        Ok(())
    }

    /// The newest has opened a session: the older ones retire. True if anything changed.
    ///
    /// # Errors
    /// If it cannot be written; the older ones are then kept.
    pub fn prove(&mut self, folder: &Folder) -> anyhow::Result<bool> {
        let Some((newest, _)) = self.held.last() else {
            return Ok(false);
        };
        let newest = *newest;
        if self.proven == Some(newest) && self.held.len() == 1 {
            return Ok(false);
        }
        folder.write(PROVEN, newest.to_string().as_bytes())?;
        self.proven = Some(newest);
        for name in folder.names()? {
            if number_of(&name).is_some_and(|number| number != newest) {
                folder.remove(&name)?;
            }
        }
        self.held.retain(|(number, _)| *number == newest);
        Ok(true)
    }

    /// The newest was refused while an older one is proven: it is dropped.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn drop_unproven(&mut self, folder: &Folder) -> anyhow::Result<()> {
        if self.is_unproven()
            && let Some((number, _)) = self.held.last()
        {
            folder.remove(&file(*number))?;
            self.held.pop();
        }
        Ok(())
    }
}

fn file(number: u64) -> String {
    format!("ldevid-{number}.pem")
}

fn number_of(name: &str) -> Option<u64> {
    let number = name
        .strip_prefix("ldevid-")?
        .strip_suffix(".pem")?
        .parse()
        .ok()?;
    (file(number) == name).then_some(number)
}

#[cfg(test)]
mod tests;
