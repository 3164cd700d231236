//! A fleet comes back after kill -9: how long until half, nearly all and all of its sessions stand
//! again, and what one costs. Devices wait as the plane tells them to, so the time is mostly theirs;
//! a plane that let all in at once, or refused them without a word, would show here.

use super::Setting;
use super::figure::{Figure, Name};
use super::load::{Load, Scenario};
use super::server::{Durability, Kind, Server};
use anyhow::{Context, bail};
use std::cell::RefCell;
use std::time::Instant;

pub fn bench(setting: &Setting) -> anyhow::Result<Vec<Figure>> {
    if setting.ours == Kind::Mosquitto {
        bail!("restart measures ours alone; leave out --against-itself");
    }
    let devices = setting.contain_sessions;
    let server = Server::fleetward(&setting.scratch, devices, Durability::Power)?;
    let scenario = Scenario::Return {
        devices,
        at_once: 64,
    };
    let load = Load::new(&server, &scenario);
    let (running, reads) = (RefCell::new(Some(server)), RefCell::new(0));
    let run = load.run(|| {
        *reads.borrow_mut() += 1;
        // The second look is when all stand: now it goes away, and what begins anew is measured.
        if *reads.borrow() == 2 {
            let old = running.borrow_mut().take().context("it was started")?;
            let begun = Instant::now();
            let new = old.again()?;
            eprintln!("  up again after {:.2} s", begun.elapsed().as_secs_f64());
            *running.borrow_mut() = Some(new);
        }
        running.borrow().as_ref().context("it runs")?.cpu()
    })?;
    let back = run.outcome.returned.context("nothing came back")?;
    let micros = run.after.since(&run.before)? / devices as f64;
    eprintln!(
        "  {devices} sessions: {} attempts, {} told \"busy\"",
        back.attempts, back.put_off
    );
    let name = |figure, unit| Name {
        bench: "restart",
        figure,
        unit,
        goal: None,
        durability: Durability::Power.name(),
    };
    let figures = [
        ("half of the sessions stand again", "s", back.half_seconds),
        ("99 of 100 stand again", "s", back.most_seconds),
        ("all stand again", "s", back.all_seconds),
        ("server CPU per session that came back", "µs", micros),
    ];
    Ok(figures
        .into_iter()
        .map(|(figure, unit, value)| Figure::alone(name(figure, unit), value, 1))
        .collect())
}
