//! The local socket: the command line of whoever runs this plane, known by the kernel's word for
//! the peer's user, not by a bearer file.

use super::http::{pause_accepting, serve_stream};
use crate::api::Caller;
use axum::Router;
use rustix::net::sockopt::socket_peercred;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tokio::net::UnixListener;
use tokio::sync::watch;

/// Binds the socket, 0600. A socket file that a dead process left is replaced: the data folder's
/// lock, taken before, says that nobody else lives here.
///
/// # Errors
/// The path cannot be bound.
pub fn bind_local(path: &Path) -> anyhow::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => anyhow::bail!("{} cannot be replaced ({e})", path.display()),
    }
    let listener = UnixListener::bind(path)
        .map_err(|e| anyhow::anyhow!("{} cannot be opened ({e})", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

pub async fn serve_local(
    listener: UnixListener,
    router: Router,
    mut stopping: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let own = rustix::process::getuid().as_raw();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopping.changed() => return Ok(()),
        };
        let Ok((stream, _)) = accepted else {
            pause_accepting().await;
            continue;
        };
        let uid = match socket_peercred(&stream) {
            Ok(credentials) => credentials.uid.as_raw(),
            Err(e) => {
                tracing::warn!("the local peer is unknown ({e}); closed");
                continue;
            }
        };
        if uid != own && uid != 0 {
            tracing::warn!("local user {uid} is neither root nor the plane's own; closed");
            continue;
        }
        let (router, stopping) = (router.clone(), stopping.clone());
        tokio::spawn(serve_stream(
            stream,
            router,
            Caller::Local { uid },
            stopping,
        ));
    }
}
