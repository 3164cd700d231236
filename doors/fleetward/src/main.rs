fn main() {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let file = std::env::args().nth(2).map(std::path::PathBuf::from);
    let config = match plane::Config::load(file.as_deref(), &|k| std::env::var(k).ok()) {
        Ok(c) => c,
        Err(e) => { eprintln!("fleetward: {e}"); std::process::exit(1) }
    };
    let rt = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let r = rt.block_on(async {
        let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
        plane::serve(config, |a| { eprintln!("{a:?}"); }, async { term.recv().await; }).await
    });
    if let Err(e) = r { eprintln!("fleetward: {e:#}"); std::process::exit(1) }
}
