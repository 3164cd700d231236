//! A small fleet to observe.

use detection::{
    Declared, DeclaredDestination, DeclaredFirmware, Detector, Deviation, Feature, Observation,
    Settings,
};
use model::{Attribution, DeviceId, Digest, ProductId, Protocol, Source, Subject, Timestamp};
use std::time::Duration;

/// A Thursday noon.
pub const START: u64 = 1_793_275_200;

pub const OUTSIDE: (Source, Attribution) = (Source::Network, Attribution::Proven);
pub const GATEWAY: (Source, Attribution) = (Source::Gateway, Attribution::Proven);
pub const REPORT: (Source, Attribution) = (Source::Device, Attribution::Proven);

pub fn at(seconds: u64) -> Timestamp {
    Timestamp::from_seconds(START + seconds)
}

pub fn device(name: &str) -> DeviceId {
    DeviceId::new(name).unwrap()
}

pub fn camera() -> ProductId {
    ProductId::new("camera").unwrap()
}

pub fn declared() -> Declared {
    Declared {
        destinations: Some(vec![
            DeclaredDestination {
                name: "cloud-video".to_owned(),
                host: Some("video.example.net".to_owned()),
                network: None,
                ports: vec![443],
                protocol: Protocol::Tcp,
            },
            DeclaredDestination {
                name: "time".to_owned(),
                host: None,
                network: Some(("198.51.100.0".parse().unwrap(), 24)),
                ports: vec![123],
                protocol: Protocol::Udp,
            },
        ]),
        listens: Some(vec![(Protocol::Tcp, 554)]),
        dns_per_minute_max: Some(60),
        bytes_out_per_minute_max: Some(1_000_000),
        tls_version_min: Some("1.3".to_owned()),
        firmware: Some(vec![DeclaredFirmware {
            version: "3.1.0".to_owned(),
            digest: Some(Digest([7; 32])),
        }]),
        ..Declared::nothing(camera())
    }
}

pub struct World {
    pub detector: Detector,
    pub said: Vec<Deviation>,
}

impl World {
    /// `devices` cameras `cam-0`, `cam-1`, .. of which `declared` is known.
    pub fn new(settings: Settings, declared: &[Declared], devices: usize) -> Self {
        let mut detector = Detector::new(settings);
        detector.declare(declared);
        for index in 0..devices {
            detector.enroll(&device(&format!("cam-{index}")), &camera());
        }
        Self {
            detector,
            said: Vec::new(),
        }
    }

    pub fn seeded() -> Self {
        Self::new(Settings::default(), &[declared()], 5)
    }

    /// The deviations that one observation of a device brings.
    pub fn see(
        &mut self,
        name: &str,
        seconds: u64,
        by: (Source, Attribution),
        feature: Feature,
    ) -> Vec<Deviation> {
        self.see_of(Subject::Device(device(name)), seconds, by, feature)
    }

    pub fn see_of(
        &mut self,
        subject: Subject,
        seconds: u64,
        (source, attribution): (Source, Attribution),
        feature: Feature,
    ) -> Vec<Deviation> {
        let mut out = Vec::new();
        self.detector.observe(
            &Observation {
                at: at(seconds),
                subject,
                source,
                attribution,
                feature,
            },
            &mut out,
        );
        self.said.extend(out.iter().cloned());
        out
    }
}

pub fn destination(address: &str, port: u16, host: Option<&str>) -> Feature {
    Feature::Destination {
        address: address.parse().unwrap(),
        port,
        protocol: Protocol::Tcp,
        host: host.map(ToOwned::to_owned),
        bytes_out: 18_000,
    }
}

pub fn queries(queries: u64, seconds: u64) -> Feature {
    Feature::DnsQueries {
        queries,
        names: Vec::new(),
        interval: Duration::from_secs(seconds),
    }
}

pub fn denied(target: &str) -> Feature {
    Feature::Denied {
        action: "publish".to_owned(),
        target: target.to_owned(),
        reason: "no-permit".to_owned(),
    }
}

pub fn refused(reason: &str) -> Feature {
    Feature::HandshakeFailed {
        reason: reason.to_owned(),
        door: "devices".to_owned(),
    }
}

pub fn session(version: &str) -> Feature {
    Feature::TlsSession {
        version: version.to_owned(),
        group: Some("X25519MLKEM768".to_owned()),
        door: "mqtt".to_owned(),
    }
}

pub fn report(boot: &str, sequence: u64) -> Feature {
    Feature::Report {
        boot: boot.to_owned(),
        sequence,
        interval: Duration::from_secs(60),
    }
}
