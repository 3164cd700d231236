//! What the room that judges says of certificates, lists and requests written by other code.

use identity::expected::parse_csv;
use identity::{Anchors, Door, IdentityKind, OwnCas, PathRefusal, Realm};
use model::{ManufacturerId, SerialNumber, TenantId};
use sim::fleet::FleetSpec;
use sim::{Factory, Flaw, Fleet};

fn anchors(factory: &Factory) -> Anchors {
    // Any CA will do for ours: nothing of ours is judged here.
    let ours = Factory::new("Ours", sim::now()).unwrap();
    let own = OwnCas {
        roots: vec![ours.certificate().to_vec()],
        issuing: Vec::new(),
    };
    let realm = Realm::new("fleet.example", TenantId::new("acme").unwrap()).unwrap();
    let maker = ManufacturerId::new("maker").unwrap();
    Anchors::new(realm, &own, vec![(maker, factory.certificate().to_vec())]).unwrap()
}

#[test]
fn a_factory_identity_is_who_it_says_at_the_device_door_alone() {
    let factory = Factory::new("Maker", sim::now()).unwrap();
    let anchors = anchors(&factory);
    // Within PrintableString, and beyond it.
    for serial in ["SN00/12:AB+7", "SN_1@x"] {
        let serial = SerialNumber::new(serial).unwrap();
        let idevid = factory.idevid(&serial, Flaw::None, sim::now()).unwrap();
        let der = idevid.certificate();
        let path = anchors
            .verify_path(Door::Devices, der, &[], sim::now())
            .unwrap();
        let presented = anchors.presented(&path, der).unwrap();
        assert_eq!(presented.kind(), IdentityKind::Idevid);
        assert!(
            presented.to_string().ends_with(serial.as_str()),
            "{presented}"
        );
        assert!(
            anchors
                .verify_path(Door::Gateway, der, &[], sim::now())
                .is_err()
        );
    }
}

#[test]
fn each_flaw_is_the_one_it_is_meant_to_be() {
    let factory = Factory::new("Maker", sim::now()).unwrap();
    let anchors = anchors(&factory);
    let serial = SerialNumber::new("SN1").unwrap();
    let judge = |flaw| {
        let idevid = factory.idevid(&serial, flaw, sim::now()).unwrap();
        anchors.verify_path(Door::Devices, idevid.certificate(), &[], sim::now())
    };
    assert!(matches!(
        judge(Flaw::Stranger),
        Err(PathRefusal::BadSignature | PathRefusal::UnknownIssuer)
    ));
    assert!(matches!(
        judge(Flaw::Expired),
        Err(PathRefusal::Expired { .. })
    ));
    assert!(matches!(
        judge(Flaw::NotYetValid),
        Err(PathRefusal::NotYetValid { .. })
    ));
    // The certificate is true. That its key is missing shows in the handshake, nowhere else.
    assert!(judge(Flaw::WrongKey).is_ok());
}

#[test]
fn the_list_of_expected_devices_is_taken_whole() {
    let factory = Factory::new("Maker", sim::now()).unwrap();
    let spec = FleetSpec {
        devices: 30,
        seed: 9,
        prefix: "cam".to_owned(),
        product: "camera".to_owned(),
        groups: vec!["beta".to_owned(), "indoor".to_owned()],
        topic_template: "t/{device}/up".to_owned(),
        payload_bytes: 128,
        threads: 1,
    };
    let fleet = Fleet::new(&spec, &factory, sim::now()).unwrap();
    let expected = parse_csv(&fleet.expected_csv(&spec)).unwrap();
    assert_eq!(expected.len(), 30);
    for (index, line) in expected.iter().enumerate() {
        let device = fleet.device(index).unwrap();
        assert_eq!(&line.serial, device.serial());
        assert_eq!(&line.device, device.id());
        assert_eq!(line.groups.len(), 2);
    }
}
