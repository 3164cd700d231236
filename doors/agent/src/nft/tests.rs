use super::*;
use crate::neighbour::{beside_a_neighbour, reaches};
use proptest::prelude::*;
use std::net::{TcpStream, UdpSocket};

#[test]
fn every_packet_out_is_counted_even_the_one_that_no_poll_would_see() {
    beside_a_neighbour(|| {
        let Ok(mut table) = Table::make() else {
            println!("skipped: nftables is not permitted here");
            return;
        };
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.send_to(&[7; 972], "10.9.0.77:9999").unwrap();
        assert!(reaches(2222));
        let counted = table.counted().unwrap();
        let udp = Counted {
            protocol: Transport::Udp,
            address: [10, 9, 0, 77].into(),
            port: 9999,
            bytes_out: 1000,
        };
        assert!(counted.contains(&udp), "{counted:?}");
        assert!(counted.iter().any(|one| one.protocol == Transport::Tcp
            && one.address == IpAddr::from([10, 9, 0, 2])
            && one.port == 2222));
    });
}

#[test]
fn the_fence_leaves_the_plane_and_nothing_else_and_can_be_lifted() {
    beside_a_neighbour(|| {
        let Ok(mut table) = Table::make() else {
            println!("skipped: nftables is not permitted here");
            return;
        };
        let plane = [SocketAddr::from(([10, 9, 0, 2], 8883))];
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let standing = TcpStream::connect("10.9.0.2:2222").unwrap();
        table.fence(&plane, &[], false).unwrap();
        assert!(reaches(8883) && !reaches(2222));
        assert!(socket.send_to(b"x", "10.9.0.2:53").is_err());
        // A resolver may be asked, and nothing else of it.
        let neighbour = [IpAddr::from([10, 9, 0, 2])];
        table.fence(&plane, &neighbour, true).unwrap();
        assert!(reaches(8883) && !reaches(2222));
        assert!(socket.send_to(b"x", "10.9.0.2:53").is_ok());
        assert!(socket.send_to(b"x", "10.9.0.2:54").is_err());
        // Replaced, not added to.
        let other = [SocketAddr::from(([10, 9, 0, 2], 2222))];
        table.fence(&other, &[], true).unwrap();
        assert!(!reaches(8883) && reaches(2222));
        table.lift().unwrap();
        assert!(reaches(8883) && reaches(2222));
        assert!(socket.send_to(b"x", "10.9.0.2:53").is_ok());
        table.fence(&plane, &[], false).unwrap();
        table.lift().unwrap();
        drop(standing);
    });
}

#[test]
fn the_table_goes_when_the_agent_goes() {
    beside_a_neighbour(|| {
        for _ in 0..2 {
            let Ok(table) = Table::make() else {
                println!("skipped: nftables is not permitted here");
                return;
            };
            // A second one of the same name is refused as long as the first lives.
            assert!(Table::make().is_err());
            drop(table);
        }
    });
}

proptest! {
    #[test]
    fn no_element_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        counted(&bytes, 2);
        counted(&bytes, 10);
    }
}
