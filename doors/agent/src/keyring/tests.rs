use super::*;
use der::{Decode, Encode};
use x509_cert::request::CertReq;

/// A plane as the keyring meets it: it issues, and knows what it has issued.
#[derive(Default)]
struct Issuer(Vec<Vec<u8>>);

impl Issuer {
    /// A certificate of the asked key; its signature is nobody's, as no one here asks for it.
    fn issue(&mut self, asked: &Asked) -> Vec<Vec<u8>> {
        let request = CertReq::from_der(&asked.request).unwrap();
        let algorithm = request.algorithm.to_der().unwrap();
        let subject = request.info.subject.to_der().unwrap();
        let validity = sequence(&[b"\x17\x0d270101000000Z", b"\x17\x0d270201000000Z"]);
        let serial = [2, 2, 1, u8::try_from(self.0.len()).unwrap()];
        let body = sequence(&[
            b"\xa0\x03\x02\x01\x02",
            &serial,
            &algorithm,
            &subject,
            &validity,
            &subject,
            &request.info.public_key.to_der().unwrap(),
        ]);
        let der = sequence(&[&body, &algorithm, b"\x03\x02\x00\x00"]);
        self.0.push(der.clone());
        vec![der]
    }

    fn admits(&self, credential: &Credential) -> bool {
        self.0.iter().any(|der| der == credential.certificate())
    }
}

/// In DER a length is as short as it can be.
fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    let head: &[u8] = match content.len() {
        0..=0x7f => &[0x30, length[1]],
        0x80..=0xff => &[0x30, 0x81, length[1]],
        _ => &[0x30, 0x82, length[0], length[1]],
    };
    [head, &content].concat()
}

fn device() -> DeviceId {
    DeviceId::new("cam-1").unwrap()
}

/// One round of getting a certificate and proving it, as the agent does.
fn obtain(folder: &Folder, issuer: &mut Issuer, again: bool) -> anyhow::Result<()> {
    let mut keyring = Keyring::open(folder)?;
    let asked = keyring.ask(folder, &device(), again)?;
    let issued = issuer.issue(&asked);
    keyring.take(folder, &asked, &issued)?;
    keyring.prove(folder)?;
    Ok(())
}

#[test]
fn a_power_cut_at_any_write_of_a_renewal_never_locks_the_device_out() {
    let mut finished = 0;
    for writes in 0..20 {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("state");
        let mut issuer = Issuer::default();
        let folder = Folder::open(&path).unwrap();
        obtain(&folder, &mut issuer, false).unwrap();
        folder.power.set(Some(writes));
        finished += u32::from(obtain(&folder, &mut issuer, true).is_ok());
        drop(folder);

        let folder = Folder::open(&path).unwrap();
        let keyring = Keyring::open(&folder).unwrap();
        assert!(
            issuer.admits(keyring.newest().unwrap()) && issuer.admits(keyring.present().unwrap()),
            "after {writes} writes"
        );
        obtain(&folder, &mut issuer, true).unwrap();
        let keyring = Keyring::open(&folder).unwrap();
        assert!(!keyring.is_unproven() && keyring.held.len() == 1);
        // The lock, the proven number, one certificate.
        let left = folder.names().unwrap();
        assert_eq!(left.len(), 3, "after {writes} writes: {left:?}");
    }
    assert!(
        (5..15).contains(&finished),
        "the cuts did not cover the renewal: {finished}"
    );
}

#[test]
fn what_was_asked_is_asked_again_with_the_same_bytes() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = Folder::open(scratch.path()).unwrap();
    obtain(&folder, &mut Issuer::default(), false).unwrap();
    let ask = |again| {
        let keyring = Keyring::open(&folder).unwrap();
        keyring.ask(&folder, &device(), again).unwrap().request
    };
    let first = ask(false);
    assert_eq!(ask(false), first);
    // A renewal is another question.
    let renewal = ask(true);
    assert_ne!(renewal, first);
    assert_eq!(ask(true), renewal);
    let keyring = Keyring::open(&folder).unwrap();
    keyring.forget_asked(&folder).unwrap();
    assert_ne!(ask(true), renewal);
}

#[test]
fn a_new_certificate_that_is_refused_gives_way_to_the_proven_one() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = Folder::open(scratch.path()).unwrap();
    let mut issuer = Issuer::default();
    obtain(&folder, &mut issuer, false).unwrap();
    let mut keyring = Keyring::open(&folder).unwrap();
    let proven = keyring.newest().unwrap().certificate().to_vec();
    let asked = keyring.ask(&folder, &device(), true).unwrap();
    let issued = issuer.issue(&asked);
    keyring.take(&folder, &asked, &issued).unwrap();
    assert!(keyring.is_unproven());
    assert_ne!(keyring.newest().unwrap().certificate(), proven);
    assert_eq!(keyring.present().unwrap().certificate(), proven);
    keyring.drop_unproven(&folder).unwrap();
    assert_eq!(keyring.newest().unwrap().certificate(), proven);
    let reopened = Keyring::open(&folder).unwrap();
    assert_eq!(reopened.newest().unwrap().certificate(), proven);
}

#[test]
fn damaged_files_are_as_good_as_none() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = Folder::open(scratch.path()).unwrap();
    let mut issuer = Issuer::default();
    obtain(&folder, &mut issuer, false).unwrap();
    for name in ["ldevid-9.pem", "asked.pem", "proven"] {
        folder.write(name, b"\xff\x00damaged").unwrap();
    }
    let keyring = Keyring::open(&folder).unwrap();
    assert!(issuer.admits(keyring.newest().unwrap()));
    obtain(&folder, &mut issuer, true).unwrap();
    assert!(folder.read("ldevid-10.pem").unwrap().is_some());
}

#[test]
fn a_certificate_of_another_key_is_not_taken() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = Folder::open(scratch.path()).unwrap();
    let mut keyring = Keyring::open(&folder).unwrap();
    let asked = keyring.ask(&folder, &device(), false).unwrap();
    let other = Asked::first(&device()).unwrap();
    let foreign = Issuer::default().issue(&other);
    assert!(keyring.take(&folder, &asked, &foreign).is_err());
    assert!(keyring.take(&folder, &asked, &[vec![0; 9]]).is_err());
    assert!(Keyring::open(&folder).unwrap().newest().is_none());
}

#[test]
fn a_request_bears_the_devices_name_and_reads_back() {
    let first = Asked::first(&device()).unwrap();
    let request = CertReq::from_der(&first.request).unwrap();
    assert_eq!(request.info.subject.to_string(), "CN=cam-1");
    let reread = Asked::read(first.pem().as_bytes()).unwrap();
    assert_eq!(reread.request, first.request);
}
