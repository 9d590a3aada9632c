//! Layers as bases of deltas.

mod common;

use common::{Root, Tar, root};
use delta::make::Survey;
use delta::{Contents, FileId};
use store::{BaseFiles, DiffId};

#[test]
fn a_layer_of_the_store_is_the_base_that_its_tar_is() {
    if !root() {
        return;
    }
    let at = Root::new();
    let tar = Tar::new()
        .file("b/two", "two\n")
        .file("a/empty", "")
        .file("a/one", &"one".repeat(70_000))
        .file("a/.wh.gone", "")
        .done();
    let below = at.layer(None, &Tar::new().file("below", "x").done()).unwrap();
    let layers = [
        at.layer(None, &tar).unwrap(),
        at.layer(Some(below.chain_id()), &tar).unwrap(),
    ];
    let survey = Survey::read(&tar[..]).unwrap();
    let found = at.store.layers.with_diff_id(&DiffId(survey.diff_id().clone()));
    for layer in &layers {
        let is_found = found.iter().any(|found| found.chain_id() == layer.chain_id());
        assert!(is_found, "in whatever chain");
    }
    assert_eq!(found.len(), 2);
    let bases = layers.iter().map(|layer| at.store.layers.base(layer.clone()).unwrap());
    let mut files = BaseFiles::new(bases.collect());
    for layer in files.layers() {
        assert_eq!(*layer, *survey.layer());
    }
    let mut read = |layer, entry, offset, n: usize| {
        let mut into = vec![0; n];
        files
            .read_base(FileId { layer, entry }, offset, &mut into)
            .map(|()| into)
    };
    assert_eq!(read(0, 0, 1, 3).unwrap(), b"wo\n");
    assert_eq!(read(1, 2, 3, 6).unwrap(), b"oneone");
    assert_eq!(read(1, 2, 209_997, 3).unwrap(), b"one");
    assert!(read(1, 2, 209_998, 3).is_err(), "beyond its end");
    assert!(read(2, 0, 0, 1).is_err(), "no such layer");
    assert!(read(0, 4, 0, 1).is_err(), "no such entry");
    assert!(read(0, 3, 0, 1).is_err(), "a whiteout has no content");
    std::fs::write(at.diff(&layers[0]).join("b/two"), "more").unwrap();
    std::fs::write(at.diff(&layers[1]).join("b/two"), "larger").unwrap();
    assert!(read(1, 0, 0, 1).is_err(), "another size");
    assert!(read(0, 0, 0, 1).is_ok(), "a checksum is for who reads all of it");
}
