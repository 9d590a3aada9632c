//! The command line client alone, without daemon and runtime: for comparing it with docker.

fn main() {
    let args: Vec<String> = std::env::args_os()
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
    std::process::exit(cli::main(&args));
}
