mod demo;
mod local;
use clap::Parser;
#[derive(Parser)]
enum Cli {
    Serve {
        #[arg(long)]
        config: Option<std::path::PathBuf>,
        #[arg(long)]
        ready_file: Option<std::path::PathBuf>,
    },
    Demo(demo::Options),
}
fn main() {
    let r = match Cli::parse() {
        Cli::Demo(o) => demo::run(&o).map(|held| {
            if !held {
                std::process::exit(1)
            }
        }),
        Cli::Serve { config, ready_file } => serve(config, ready_file),
    };
    if let Err(e) = r {
        eprintln!("fleetward: {e:#}");
        std::process::exit(1)
    }
}
fn serve(
    config: Option<std::path::PathBuf>,
    ready_file: Option<std::path::PathBuf>,
) -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    let config = plane::Config::load(config.as_deref(), &|k| std::env::var(k).ok())?;
    let rt = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    rt.block_on(async {
        let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        plane::serve(config, |a| { if let Some(f) = ready_file { let t = f.with_extension("tmp"); std::fs::write(&t, serde_json::json!({"people": a.people, "devices": a.devices, "mqtt": a.mqtt}).to_string()).unwrap(); std::fs::rename(t, f).unwrap(); } }, async move { term.recv().await; }).await
    })
}
