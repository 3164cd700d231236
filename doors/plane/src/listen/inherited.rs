//! The door for people may be opened by whoever starts the plane (systemd socket activation,
//! `sd_listen_fds(3)`): where it lies in another network than the plane, or on a port below 1024.

use listenfd::ListenFd;
use rustix::net::sockopt::socket_acceptconn;
use std::net::TcpListener;

/// The name of the door for people in `LISTEN_FDNAMES`.
const PEOPLE: &str = "people";

/// The listener for people, if one was handed to this process: `LISTEN_FDS` counts what was, and
/// `LISTEN_FDNAMES` names each, separated by colons. `LISTEN_PID`, if set, must be ours.
///
/// # Errors
/// Something was handed over under that name, or without names, that is no listening TCP socket.
pub fn people() -> anyhow::Result<Option<TcpListener>> {
    let names = std::env::var("LISTEN_FDNAMES").ok();
    let mut handed = ListenFd::from_env();
    let place = place_of(PEOPLE, names.as_deref(), handed.len())?;
    let Some(place) = place else {
        return Ok(None);
    };
    let listener = handed.take_tcp_listener(place).map_err(|e| {
        anyhow::anyhow!("the inherited listener for people cannot be used ({e}); {ADVICE}")
    })?;
    listener.map(checked).transpose()
}

const ADVICE: &str = "hand over one listening TCP socket, with LISTEN_FDS=1 and \
                      LISTEN_FDNAMES=people, or none";

/// Which of the handed sockets bears `name`. Sockets with other names are not ours and refused:
/// somebody believes that a door is open which is not.
fn place_of(name: &str, names: Option<&str>, count: usize) -> anyhow::Result<Option<usize>> {
    if count == 0 {
        return Ok(None);
    }
    let names: Vec<&str> = names.unwrap_or_default().split(':').collect();
    let is_ours = names.len() == count && names.iter().all(|known| *known == name);
    anyhow::ensure!(
        count == 1 && is_ours,
        "{count} socket(s) were handed to this process under the names {names:?}; {ADVICE}"
    );
    Ok(Some(0))
}

fn checked(listener: TcpListener) -> anyhow::Result<TcpListener> {
    let listens = socket_acceptconn(&listener).unwrap_or(false);
    anyhow::ensure!(
        listens && listener.local_addr().is_ok(),
        "the inherited socket for people does not listen; {ADVICE}"
    );
    // The runtime asks for it; systemd sets it or not.
    listener.set_nonblocking(true)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_door_for_people_is_inherited_and_nothing_passes_unseen() {
        assert_eq!(place_of(PEOPLE, None, 0).unwrap(), None);
        assert_eq!(place_of(PEOPLE, Some("people"), 0).unwrap(), None);
        assert_eq!(place_of(PEOPLE, Some("people"), 1).unwrap(), Some(0));
        for (names, count) in [
            (None, 1),
            (Some(""), 1),
            (Some("mqtt"), 1),
            (Some("people:mqtt"), 2),
            (Some("people:people"), 2),
            (Some("people"), 2),
            (Some("people:people"), 1),
        ] {
            let refused = place_of(PEOPLE, names, count).unwrap_err().to_string();
            assert!(refused.contains("LISTEN_FDNAMES=people"), "{refused}");
        }
    }

    #[test]
    fn a_socket_that_does_not_listen_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let connected = TcpListener::from(std::os::fd::OwnedFd::from(stream));
        assert!(checked(connected).is_err());
        assert!(checked(listener).is_ok());
    }
}
