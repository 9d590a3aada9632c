//! Unpacks a layer from standard input into a data root and says what it cost: for measurements by hand.
//!
//! `unpack <data root> < layer.tar.gz`

use std::io::Read;
use std::path::Path;
use std::time::Instant;

fn cached() -> i64 {
    let text = std::fs::read_to_string("/proc/meminfo").expect("/proc is mounted");
    let line = |key: &str| text.lines().find_map(|line| line.strip_prefix(key));
    let number = line("Cached:").and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
    number.expect("meminfo has Cached")
}

fn main() {
    let root = std::env::args().nth(1).expect("usage: unpack <data root> < layer");
    let store = store::Store::open(Path::new(&root)).expect("open");
    let start = Instant::now();
    let before = cached();
    let done = std::sync::atomic::AtomicBool::new(false);
    let (layer, peak) = std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut peak = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                peak = peak.max(cached() - before);
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            peak
        });
        let mut stream = store::Decompressed::open(std::io::stdin().lock()).expect("sniff");
        let unpacked = store
            .layers
            .stage(None)
            .and_then(|staged| staged.unpack(stream.by_ref()))
            .expect("unpack");
        println!("{:?}", unpacked.outcome());
        let layer = unpacked.commit_as_is().expect("commit");
        stream.drain().expect("drain");
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        (layer, watch.join().expect("watch"))
    });
    println!("layer {} in {:?}", layer.chain_id().digest(), start.elapsed());
    println!("page cache: peak +{} KiB, end +{} KiB", peak, cached() - before);
    let usage = std::fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    usage
        .lines()
        .filter(|line| line.starts_with("VmHWM") || line.starts_with("RssAnon"))
        .for_each(|line| println!("{line}"));
    let times = std::fs::read_to_string("/proc/self/stat").expect("/proc is mounted");
    let fields: Vec<&str> = times.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    println!(
        "CPU: user {} system {} (hundredths of a second)",
        fields[11], fields[12]
    );
}
