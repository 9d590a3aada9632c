//! A layer unpacked for real, into a store that is used again and again. Nothing may appear beside it, and what was
//! unpacked must make the same tar again.

use super::{Target, tar};
use std::cell::OnceCell;
use std::fs;
use store::Store;
use tempfile::TempDir;

pub const TARGET: Target = Target {
    name: "unpack",
    run,
    seeds: tar::seeds,
};

struct Place {
    dir: TempDir,
    store: Store,
}

thread_local! {
    static PLACE: OnceCell<Place> = const { OnceCell::new() };
}

fn run(bytes: &[u8]) {
    PLACE.with(|place| {
        let place = place.get_or_init(|| {
            let dir = tempfile::tempdir().expect("make a directory");
            fs::create_dir_all(dir.path().join("a/b")).expect("make directories");
            let store = Store::open(&dir.path().join("a/b/store")).expect("open a store");
            Place { dir, store }
        });
        let layers = &place.store.layers;
        let staged = layers.stage(None).expect("stage a layer");
        let bytes = &tar::sealed(bytes);
        if let Ok(unpacked) = staged.unpack(&bytes[..]) {
            let layer = unpacked.commit_as_is().expect("commit what was unpacked");
            let mut again = Vec::new();
            layers.write_tar(&layer, &mut again).expect("make the tar again");
            assert!(again == *bytes, "the tar is another one");
            let chain = layer.chain_id().clone();
            drop(layer);
            layers.remove_unused(&chain).expect("remove what was unpacked");
        }
        for (below, only) in [("", "a"), ("a", "b"), ("a/b", "store")] {
            let names: Vec<_> = fs::read_dir(place.dir.path().join(below))
                .expect("the directory is there")
                .map(|entry| entry.expect("it can be listed").file_name())
                .collect();
            assert_eq!(names, [only], "something was made outside of the layer");
        }
        let left = fs::read_dir(place.store.root().join("overlay2"))
            .expect("it is there")
            .count();
        assert!(left <= 1, "{left} entries are left behind");
    });
}
