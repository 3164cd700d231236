//! Certificate chains that were found good, so that a device that comes back costs one signature
//! check and not three.
//!
//! Only successes are kept: a refused chain is checked again each time, and cannot crowd out a
//! good one. What is kept says nothing of time or revocation, which are asked at each use.

use identity::Door;
use model::Digest;
use rustls::pki_types::CertificateDer;
use std::collections::HashMap;
use std::sync::Arc;

/// What was found under certain anchors. Under others it counts for nothing.
#[derive(Debug)]
pub struct Paths<Anchors, Path> {
    anchors: Option<Arc<Anchors>>,
    /// Kept since the last change of generation, and what was used or kept in the one before.
    young: HashMap<Digest, Path>,
    old: HashMap<Digest, Path>,
}

/// Entries of one generation: two of them are some 15 MB.
const GENERATION: usize = 32 * 1024;

impl<Anchors, Path> Default for Paths<Anchors, Path> {
    fn default() -> Self {
        Self {
            anchors: None,
            young: HashMap::new(),
            old: HashMap::new(),
        }
    }
}

impl<Anchors, Path: Clone> Paths<Anchors, Path> {
    /// The path of a chain that these very anchors, and no equal ones, found good before.
    pub fn find(&mut self, anchors: &Arc<Anchors>, chain: &Digest) -> Option<Path> {
        if !(self.anchors.as_ref()).is_some_and(|known| Arc::ptr_eq(known, anchors)) {
            return None;
        }
        if let Some(path) = self.young.get(chain) {
            return Some(path.clone());
        }
        let path = self.old.get(chain)?.clone();
        self.put(*chain, path.clone());
        Some(path)
    }

    /// Keeps what `anchors` found good.
    pub fn keep(&mut self, anchors: &Arc<Anchors>, chain: Digest, path: Path) {
        if !(self.anchors.as_ref()).is_some_and(|known| Arc::ptr_eq(known, anchors)) {
            *self = Self {
                // Held, so that no other anchors can come to lie at the same address.
                anchors: Some(Arc::clone(anchors)),
                ..Self::default()
            };
        }
        self.put(chain, path);
    }

    fn put(&mut self, chain: Digest, path: Path) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(chain, path);
    }
}

/// Names a whole chain as shown at a door: the same certificates at another door, in another order
/// or with others between them are another chain.
pub fn name_of(
    door: Door,
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
) -> Digest {
    let mut hash = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    hash.update(&[match door {
        Door::Devices => 0,
        Door::Gateway => 1,
    }]);
    for certificate in std::iter::once(end_entity).chain(intermediates) {
        hash.update(&(certificate.len() as u64).to_be_bytes());
        hash.update(certificate);
    }
    let mut name = [0; 32];
    for (to, from) in name.iter_mut().zip(hash.finish().as_ref()) {
        *to = *from;
    }
    Digest(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(of: usize) -> Digest {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&of.to_be_bytes());
        Digest(bytes)
    }

    #[test]
    fn a_path_found_under_old_anchors_opens_nothing_under_new_ones() {
        let (before, after) = (Arc::new("anchors"), Arc::new("anchors"));
        let mut paths = Paths::default();
        paths.keep(&before, number(1), 'p');
        assert_eq!(paths.find(&before, &number(1)), Some('p'));
        assert_eq!(paths.find(&after, &number(1)), None);
        // A handshake that began before the change and ends after it.
        paths.keep(&after, number(2), 'q');
        paths.keep(&before, number(1), 'p');
        assert_eq!(paths.find(&after, &number(1)), None);
        assert_eq!(paths.find(&after, &number(2)), None);
    }

    #[test]
    fn what_is_used_stays_and_the_rest_is_bounded() {
        let anchors = Arc::new(());
        let mut paths = Paths::default();
        paths.keep(&anchors, number(0), 0);
        for of in 1..5 * GENERATION {
            paths.keep(&anchors, number(of), of);
            assert_eq!(paths.find(&anchors, &number(0)), Some(0), "after {of}");
        }
        assert_eq!(paths.find(&anchors, &number(1)), None);
        assert!(paths.young.len() + paths.old.len() <= 2 * GENERATION);
    }

    #[test]
    fn a_chain_is_named_by_all_of_it_and_the_door() {
        let der = |bytes: &'static [u8]| CertificateDer::from(bytes);
        let names = [
            name_of(Door::Gateway, &der(b"leaf"), &[]),
            name_of(Door::Devices, &der(b"leaf"), &[]),
            name_of(Door::Gateway, &der(b"leaf"), &[der(b"ca")]),
            name_of(Door::Gateway, &der(b"leafca"), &[]),
            name_of(Door::Gateway, &der(b"ca"), &[der(b"leaf")]),
            name_of(Door::Gateway, &der(b"leaf"), &[der(b"c"), der(b"a")]),
        ];
        for (at, name) in names.iter().enumerate() {
            assert!(!names[..at].contains(name), "{at}");
        }
    }
}
