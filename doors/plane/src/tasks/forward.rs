//! Carries messages to another broker and back while both legs stand, and makes them stand again.

use crate::forward::{Bridge, Outputs, PING_EVERY, ask_up, open_local, open_upstream, pause};
use crate::plane::{Plane, random};
use anyhow::Context;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

const OPEN_SECONDS_MAX: Duration = Duration::from_secs(15);
/// Who takes nothing for so long is gone.
const WRITE_SECONDS_MAX: Duration = Duration::from_secs(30);

pub async fn run(plane: Arc<Plane>, mut stopping: watch::Receiver<bool>) {
    if !plane.config.forward.is_on() {
        return;
    }
    let mut failures = 0;
    loop {
        let begun = Instant::now();
        let ended = tokio::select! {
            ended = forward(&plane) => ended,
            // Both sessions last; what is under way comes again.
            _ = stopping.changed() => return,
        };
        // One that stood for a while begins anew.
        failures = if begun.elapsed() > PING_EVERY {
            1
        } else {
            failures + 1
        };
        let trouble = match ended {
            Ok(()) => "it ended".to_owned(),
            Err(error) => format!("{error:#}"),
        };
        let rest = pause(failures, random().map_or(0, u32::from_be_bytes));
        tracing::warn!(
            "forwarding to {} failed: {trouble}; tried again in {rest:?} [operator must act]",
            plane.config.forward.upstream
        );
        plane.forwarding.failed(trouble);
        tokio::select! {
            () = sleep(rest) => {}
            _ = stopping.changed() => return,
        }
    }
}

/// Until one of the legs ends, which ends the other.
async fn forward(plane: &Plane) -> anyhow::Result<()> {
    let config = &plane.config.forward;
    plane.forwarding.connecting();
    // The other broker first: what our door has would only wait in memory without it.
    let mut upstream = (timeout(OPEN_SECONDS_MAX, open_upstream(config)).await)
        .context("the other broker does not answer")?
        .context("the other broker")?;
    let mut local = (timeout(OPEN_SECONDS_MAX, open_local(plane, config)).await)
        .context("our own door does not answer")?
        .context("our own door")?;
    let mut bridge = Bridge::new(&config.prefix, plane.config.gateway.packet_bytes_max);
    plane.forwarding.forwarding();
    tracing::info!("forwarding to {}", config.upstream);
    let mut ping_at = Instant::now() + PING_EVERY;
    let (mut local_heard, mut upstream_heard) = (true, true);
    loop {
        let mut out = Outputs::default();
        local.take(|packet| {
            bridge.hear_local(packet, &mut out)?;
            Ok(true)
        })?;
        upstream.take(|packet| {
            bridge.hear_upstream(packet, &mut out)?;
            Ok(bridge.takes_from_upstream())
        })?;
        timeout(WRITE_SECONDS_MAX, async {
            local.send(&out.local).await?;
            upstream.send(&out.upstream).await
        })
        .await??;
        plane.forwarding.count(&mut bridge.counts);
        tokio::select! {
            received = local.receive() => {
                received?;
                local_heard = true;
            }
            received = upstream.receive(), if bridge.takes_from_upstream() => {
                received?;
                upstream_heard = true;
            }
            () = sleep_until(ping_at) => {
                if !local_heard || (!upstream_heard && bridge.takes_from_upstream()) {
                    anyhow::bail!("no sign of life for {} s", PING_EVERY.as_secs());
                }
                (local_heard, upstream_heard) = (false, false);
                ping_at = Instant::now() + PING_EVERY;
                let mut ping = Vec::new();
                mqtt::encode::pingreq(&mut ping);
                timeout(WRITE_SECONDS_MAX, async {
                    local.send(&ping).await?;
                    ask_up(&mut local, config).await?;
                    upstream.send(&ping).await
                })
                .await??;
            }
        }
    }
}
