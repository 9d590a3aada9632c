//! tar-split as a data root may hold it: its length is what comes out of it.

use super::{Target, tar};
use oci::tar_split::{assemble, length};

pub const TARGET: Target = Target {
    name: "tar-split",
    run,
    seeds,
};

fn run(bytes: &[u8]) {
    let mut made = 0u64;
    struct Count<'a>(&'a mut u64);
    impl std::io::Write for Count<'_> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            *self.0 += bytes.len() as u64;
            // What a few lines ask for may be large, and is of no interest then.
            match *self.0 > 1 << 20 {
                true => Err(std::io::ErrorKind::FileTooLarge.into()),
                false => Ok(bytes.len()),
            }
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let told = length(bytes);
    let done = assemble(&mut &bytes[..], |_| Ok(std::io::repeat(0)), &mut Count(&mut made));
    if done.is_ok() {
        assert_eq!(told.expect("it could be read"), made);
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = tar::seeds()
        .iter()
        .filter_map(|bytes| Some(tar::take_apart(bytes).ok()?.0))
        .collect();
    // Of a file of zeros, so that its checksum is right here.
    let mut split = oci::tar_split::Splitter::new(Vec::new());
    let mut crc = oci::tar_split::Crc64::default();
    crc.update(&[0; 5]);
    split.file(b"d\xff", 5, crc.value()).expect("memory takes it");
    all.push(split.finish().expect("memory takes it"));
    all
}
