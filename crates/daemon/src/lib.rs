//! The daemon: configuration, listeners, the HTTP edge over the engine, and a clean end.

mod anew;
mod body;
mod config;
mod listen;
mod logger;
mod notify;
mod pidfile;
mod query;
mod route;
mod routes;
mod serve;
mod settings;
mod status;

use config::Command;
use engine::Engine;
use std::path::PathBuf;
use std::sync::Arc;
use sys::signal::SignalFd;

const SIGHUP: i32 = 1;
const SIGINT: i32 = 2;
const SIGQUIT: i32 = 3;
const SIGTERM: i32 = 15;

/// Runs the daemon until it is told to end. `args` are those behind the program's name.
pub fn main(args: &[String]) -> i32 {
    let given = match config::read(args) {
        Ok(Command::Help) => {
            print!("{}", config::help());
            return 0;
        }
        Ok(Command::Version) => {
            println!(
                "balenad version {}, build {}",
                api::ENGINE_VERSION,
                option_env!("BALENA_COMMIT").unwrap_or("unknown")
            );
            return 0;
        }
        Ok(Command::Validate(given)) => {
            return match settings::Settings::of(&given) {
                Ok(_) => {
                    println!("configuration OK");
                    0
                }
                Err(e) => {
                    eprintln!("{e}");
                    1
                }
            };
        }
        Ok(Command::Run(given)) => given,
        Err(e) => {
            eprintln!("{e}");
            return if e.starts_with("unknown") || e.starts_with("flag") || e.starts_with("invalid argument") {
                125
            } else {
                1
            };
        }
    };
    let settings = match settings::Settings::of(&given) {
        Ok(settings) => settings,
        Err(e) => {
            eprintln!("failed to start daemon: {e}");
            return 1;
        }
    };
    if let Err(e) = logger::start(&settings.log) {
        eprintln!("{e}");
        return 1;
    }
    std::panic::set_hook(Box::new(|panic| logger::write("fatal", &panic.to_string())));
    match run(settings, args) {
        Ok(()) => 0,
        Err(e) => {
            logger::write("fatal", &format!("failed to start daemon: {e}"));
            eprintln!("failed to start daemon: {e}");
            1
        }
    }
}

fn run(settings: settings::Settings, args: &[String]) -> Result<(), String> {
    // Before the first thread: every thread inherits the mask, and the signals are read in one place.
    let signals = SignalFd::new(&[SIGHUP, SIGINT, SIGQUIT, SIGTERM]).map_err(|e| format!("read signals: {e}"))?;
    let mut inheritance = anew::Inheritance::take();
    log::info!("Starting up");
    if let Some(score) = settings.oom_score_adjust {
        let file = "/proc/self/oom_score_adj";
        std::fs::write(file, score.to_string())
            .map_err(|e| format!("set --oom-score-adjust {score}: write {file}: {e}"))?;
    }
    let _pidfile = pidfile::Pidfile::take(&settings.pidfile)?;
    prepare(&settings)?;
    // A descriptor or a few for each container and each client.
    if let Err(e) = sys::fs::raise_file_limit() {
        log::debug!("raise the limit of open files: {e}");
    }
    let listeners = listen::open(&settings.hosts, &settings.group, &mut inheritance)?;
    let sockets: Vec<_> = listeners.iter().map(listen::Listener::named).collect();
    inheritance.arm(args, &sockets);
    let (hosts, pidfile) = (settings.hosts.clone(), settings.pidfile.clone());
    log::debug!("listening on {hosts:?}, pid file {}", pidfile.display());
    let engine = Engine::open(settings.engine, settings.network, settings.registry).map_err(|e| e.to_string())?;
    engine::reopen::all(&engine).map_err(|e| format!("take up containers: {e}"))?;
    let sweeper = engine.clone();
    let swept = std::thread::Builder::new()
        .name("sweep".into())
        .stack_size(512 << 10)
        .spawn(move || {
            sweep(&sweeper);
            if sweeper.store.was_cut() {
                engine::verify::after_unclean_stop(&sweeper);
            }
        });
    swept.map_err(|e| format!("start a thread for the sweep: {e}"))?;
    log::info!("balena {} with storage driver overlay2", api::ENGINE_VERSION);

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .max_blocking_threads(1)
        .build()
        .map_err(|e| format!("start the HTTP runtime: {e}"))?;
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let (watched, args) = (engine.clone(), args.to_vec());
    let waiting = move || wait_for_signals(&signals, &watched, &args, stop);
    std::thread::Builder::new()
        .name("signals".into())
        .stack_size(256 << 10)
        .spawn(waiting)
        .map_err(|e| format!("start a thread for signals: {e}"))?;
    let served = engine.clone();
    let outcome = runtime.block_on(async move {
        for listener in listeners {
            listener.serve(served.clone())?;
        }
        log::info!("Daemon has completed initialization");
        for host in &hosts {
            log::info!("API listen on {}", host.strip_prefix("unix://").unwrap_or(host));
        }
        notify::ready(tokio::runtime::Handle::current());
        // An error here means that the sender is gone, which means the same.
        let _ = stopped.await;
        Ok::<(), String>(())
    });
    notify::stopping();
    engine.close();
    if let Err(e) = engine.store.note_clean_stop() {
        log::warn!("{e}");
    }
    // Connections end here; containers go on.
    runtime.shutdown_background();
    log::info!("Daemon shutdown complete");
    outcome
}

fn sweep(engine: &Engine) {
    let swept = engine.store.sweep();
    if swept.layers + swept.temporary > 0 {
        log::info!(
            "swept {} layer directories and {} temporary files, {} bytes, that no record referred to",
            swept.layers,
            swept.temporary,
            swept.bytes
        );
    }
    for error in swept.errors {
        log::warn!("sweep: {error}");
    }
}

fn prepare(settings: &settings::Settings) -> Result<(), String> {
    let make = |path: PathBuf, mode: u32| {
        use std::os::unix::fs::DirBuilderExt;
        let made = std::fs::DirBuilder::new().recursive(true).mode(mode).create(&path);
        made.map_err(|e| format!("make {}: {e}", path.display()))
    };
    let root = &settings.engine.data_root;
    if let (Some(driver), false) = (engine::foreign_driver(root), settings.driver_chosen) {
        return Err(format!(
            "the images in {} are of the storage driver {driver}, which is not supported by balena: name another --data-root, or \
             begin anew beside them with --storage-driver overlay2",
            root.display()
        ));
    }
    make(root.clone(), 0o710)?;
    make(settings.engine.exec_root.clone(), 0o711)?;
    make(settings.engine.exec_root.join("containers"), 0o711)
}

fn wait_for_signals(signals: &SignalFd, engine: &Arc<Engine>, args: &[String], stop: tokio::sync::oneshot::Sender<()>) {
    use std::os::fd::AsFd;
    loop {
        if let Err(e) = sys::wake::wait(&[(signals.as_fd(), sys::wake::Interest::Read)], None) {
            log::error!("wait for signals: {e}");
            break;
        }
        match signals.next() {
            Ok(Some(received)) if received.signal == SIGHUP => reload(engine, args),
            Ok(Some(received)) if received.signal == SIGQUIT => {
                dump(engine);
                break;
            }
            Ok(Some(received)) => {
                log::info!(
                    "Processing signal '{}'",
                    if received.signal == SIGINT {
                        "interrupt"
                    } else {
                        "terminated"
                    }
                );
                break;
            }
            Ok(None) => {}
            Err(e) => log::error!("read signals: {e}"),
        }
    }
    let _ = stop.send(());
}

/// Reads the configuration again and takes over what can change while running.
fn reload(engine: &Arc<Engine>, args: &[String]) {
    let given = match config::read(args) {
        Ok(Command::Run(given)) => given,
        Ok(_) => return,
        Err(e) => return log::error!("reload the configuration: {e}"),
    };
    let settings = match settings::Settings::of(&given) {
        Ok(settings) => settings,
        Err(e) => return log::error!("reload the configuration: {e}"),
    };
    if let Err(e) = logger::start(&settings.log) {
        log::error!("reload the configuration: {e}");
    }
    log::info!("Reset Max Concurrent Downloads: {}", settings.engine.limits.downloads);
    log::info!("Reset Max Concurrent Uploads: {}", settings.engine.limits.uploads);
    engine.set_registry(settings.registry);
    engine.set_limits(settings.engine.limits);
    let attributes = [("name".to_string(), engine::info::hostname())].into();
    engine.events.emit("daemon", "reload", "balena", attributes);
    log::info!("Reloaded configuration");
}

fn dump(engine: &Engine) {
    for container in engine.containers.all() {
        let record = container.record();
        log::info!("container {} {} {}", record.id.short(), record.name(), record.status());
    }
}
