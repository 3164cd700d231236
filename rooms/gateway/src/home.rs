//! Where a principal lives. Takeover, revocation and a persistent session never cross a shard,
//! because all of a principal's sessions are on one.

use model::Principal;

/// The number of journal partitions. It never changes: a partition's number is in stored records.
pub const PARTITIONS: u16 = 256;

/// The partition of a principal's durable state: a hash that is the same in every build and run.
#[must_use]
pub fn partition(principal: &Principal) -> u8 {
    let kind: &[u8] = match principal {
        Principal::Device(_) => b"device/",
        Principal::Service(_) => b"service/",
    };
    // Names are given by the operator, so nobody outside can aim at a partition.
    fold(kind.iter().chain(principal.name().as_bytes()))
}

/// The partition of what is retained on a topic.
#[must_use]
pub(crate) fn partition_of_topic(topic: &str) -> u8 {
    fold(topic.as_bytes())
}

/// FNV-1a, 64 bits, all of it folded into one byte. A keyed hash would not survive a restart.
fn fold<'b>(bytes: impl IntoIterator<Item = &'b u8>) -> u8 {
    let hash = (bytes.into_iter()).fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    hash.to_le_bytes()
        .into_iter()
        .fold(0, |all, byte| all ^ byte)
}

/// The shard that a connection must be handed to right after its handshake. `shards` is 1 to 256;
/// 0 is read as 1.
#[must_use]
pub fn home_shard(principal: &Principal, shards: u16) -> u16 {
    u16::from(partition(principal)) % shards.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{DeviceId, ServiceId};

    #[test]
    fn a_partition_never_changes_between_builds() {
        let device = Principal::Device(DeviceId::new("cam-1").unwrap());
        let service = Principal::Service(ServiceId::new("cam-1").unwrap());
        assert_eq!((partition(&device), partition(&service)), (130, 6));
    }

    #[test]
    fn a_fleet_spreads_over_all_partitions() {
        let mut seen = [0_u32; 256];
        for number in 0..25_600 {
            let device = Principal::Device(DeviceId::new(&format!("cam-{number}")).unwrap());
            seen[usize::from(partition(&device))] += 1;
        }
        assert!(
            seen.iter().all(|count| (40..200).contains(count)),
            "{seen:?}"
        );
    }
}
