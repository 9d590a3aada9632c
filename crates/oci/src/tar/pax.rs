//! PAX extended header records: `"<length> <key>=<value>\n"`, length in decimal and counting itself.

use super::{Entry, Extent, Time};

/// What the records of one extended header say about the next entry. Unknown keys are ignored.
#[derive(Default)]
pub(super) struct Records {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    user: Option<Vec<u8>>,
    group: Option<Vec<u8>>,
    uid: Option<u32>,
    gid: Option<u32>,
    pub size: Option<u64>,
    mtime: Option<Time>,
    atime: Option<Time>,
    ctime: Option<Time>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    sparse: SparseRecords,
}

#[derive(Default)]
struct SparseRecords {
    major: Vec<u8>,
    minor: Vec<u8>,
    name: Option<Vec<u8>>,
    size: Option<u64>,
    real_size: Option<u64>,
    map: Option<Vec<Extent>>,
    /// The offset of format 0.0 that waits for its length.
    offset: Option<u64>,
}

/// How the records say that a file is sparse.
pub(super) enum Sparse {
    No,
    /// Formats 0.0 and 0.1: the map is in the records.
    Map(Vec<Extent>),
    /// Format 1.0: the map is the first blocks of the content.
    InContent,
}

type Parsed<T> = Result<T, &'static str>;

impl Records {
    /// Parses the content of an `x` header.
    pub fn parse(mut bytes: &[u8]) -> Parsed<Records> {
        let mut records = Records::default();
        while !bytes.is_empty() {
            let space = bytes
                .iter()
                .take(20)
                .position(|&b| b == b' ')
                .ok_or("PAX record without a length")?;
            let length = usize::try_from(decimal(&bytes[..space])?).map_err(|_| "PAX record too long")?;
            if length > bytes.len() || length < space + 2 {
                return Err("PAX record of a wrong length");
            }
            let (record, rest) = bytes.split_at(length);
            bytes = rest;
            let record = record[space + 1..]
                .strip_suffix(b"\n")
                .ok_or("PAX record without its end")?;
            let equals = record.iter().position(|&b| b == b'=').ok_or("PAX record without '='")?;
            records.take(&record[..equals], &record[equals + 1..])?;
        }
        Ok(records)
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Parsed<()> {
        if key.is_empty() || key.contains(&0) {
            return Err("PAX record with an invalid key");
        }
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            if !name.is_empty() {
                self.xattrs.retain(|(known, _)| known != name);
                self.xattrs.push((name.to_vec(), value.to_vec()));
            }
            return Ok(());
        }
        if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
            return self.sparse.take(key, value);
        }
        // An empty value takes back what an earlier header said: the ustar field holds.
        let set = (!value.is_empty()).then_some(value);
        match key {
            b"path" => self.path = set.map(name).transpose()?,
            b"linkpath" => self.link = set.map(name).transpose()?,
            b"uname" => self.user = set.map(name).transpose()?,
            b"gname" => self.group = set.map(name).transpose()?,
            b"uid" => self.uid = set.map(owner).transpose()?,
            b"gid" => self.gid = set.map(owner).transpose()?,
            b"size" => self.size = set.map(decimal).transpose()?,
            b"mtime" => self.mtime = set.map(time).transpose()?,
            b"atime" => self.atime = set.map(time).transpose()?,
            b"ctime" => self.ctime = set.map(time).transpose()?,
            _ => {}
        }
        Ok(())
    }

    /// Says whose user and group the records name, for headers whose own fields cannot hold them.
    pub fn owners(&self) -> (Option<u32>, Option<u32>) {
        (self.uid, self.gid)
    }

    /// Writes what the records say over what the header block said.
    pub fn apply(self, entry: &mut Entry) -> Parsed<Sparse> {
        let put = |into: &mut Vec<u8>, value: Option<Vec<u8>>| {
            if let Some(value) = value {
                *into = value;
            }
        };
        put(&mut entry.name, self.path);
        put(&mut entry.link, self.link);
        put(&mut entry.user, self.user);
        put(&mut entry.group, self.group);
        entry.mtime = self.mtime.unwrap_or(entry.mtime);
        entry.atime = self.atime.or(entry.atime);
        entry.ctime = self.ctime.or(entry.ctime);
        entry.xattrs = self.xattrs;
        let sparse = self.sparse;
        let kind = match (&sparse.major[..], &sparse.minor[..]) {
            (b"1", b"0") => Sparse::InContent,
            (b"", b"") | (b"0", b"0" | b"1") => sparse.map.map_or(Sparse::No, Sparse::Map),
            _ => Sparse::No,
        };
        if !matches!(kind, Sparse::No) {
            put(&mut entry.name, sparse.name);
            entry.size = sparse.size.or(sparse.real_size).unwrap_or(entry.size);
        }
        Ok(kind)
    }
}

impl SparseRecords {
    fn take(&mut self, key: &[u8], value: &[u8]) -> Parsed<()> {
        match key {
            b"major" => self.major = value.to_vec(),
            b"minor" => self.minor = value.to_vec(),
            b"name" => self.name = Some(name(value)?),
            b"size" => self.size = Some(decimal(value)?),
            b"realsize" => self.real_size = Some(decimal(value)?),
            b"map" => {
                let numbers = value.split(|&b| b == b',').map(decimal).collect::<Parsed<Vec<u64>>>()?;
                let pairs = numbers.chunks_exact(2);
                if !pairs.remainder().is_empty() {
                    return Err("sparse map of odd length");
                }
                self.map = Some(
                    pairs
                        .map(|pair| Extent {
                            offset: pair[0],
                            length: pair[1],
                        })
                        .collect(),
                );
            }
            b"numblocks" => self.map = Some(Vec::new()),
            b"offset" if self.offset.is_none() => self.offset = Some(decimal(value)?),
            b"numbytes" => {
                let offset = self.offset.take().ok_or("sparse length without an offset")?;
                self.map.get_or_insert_default().push(Extent {
                    offset,
                    length: decimal(value)?,
                });
            }
            b"offset" => return Err("sparse offset without a length"),
            _ => {}
        }
        Ok(())
    }
}

fn name(value: &[u8]) -> Parsed<Vec<u8>> {
    if value.contains(&0) {
        Err("name with a NUL in a PAX record")
    } else {
        Ok(value.to_vec())
    }
}

fn owner(value: &[u8]) -> Parsed<u32> {
    u32::try_from(decimal(value)?).map_err(|_| "owner number too large")
}

/// Reads digits, and nothing but digits.
pub(super) fn decimal(value: &[u8]) -> Parsed<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err("number is not decimal");
    }
    let value = value
        .iter()
        .try_fold(0u64, |sum, &b| sum.checked_mul(10)?.checked_add(u64::from(b - b'0')));
    value
        .filter(|&value| i64::try_from(value).is_ok())
        .ok_or("number too large")
}

/// Reads `[-]seconds[.fraction]`; digits past the ninth are cut off, as Go does.
fn time(value: &[u8]) -> Parsed<Time> {
    let (whole, fraction) = match value.iter().position(|&b| b == b'.') {
        Some(dot) => (&value[..dot], &value[dot + 1..]),
        None => (value, &b""[..]),
    };
    let (negative, digits) = match whole.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, whole),
    };
    let seconds = i64::try_from(decimal(digits)?).map_err(|_| "time too large")?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err("time is not a number");
    }
    let mut nanoseconds = 0u32;
    for at in 0..9 {
        nanoseconds = nanoseconds * 10 + u32::from(fraction.get(at).map_or(0, |b| b - b'0'));
    }
    Ok(match (negative, nanoseconds) {
        (false, _) => Time { seconds, nanoseconds },
        (true, 0) => Time {
            seconds: -seconds,
            nanoseconds,
        },
        // -1.25 is two seconds before 1970, and 0.75 on top.
        (true, _) => Time {
            seconds: -seconds - 1,
            nanoseconds: 1_000_000_000 - nanoseconds,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_and_past_2038() {
        let at = |seconds, nanoseconds| Ok(Time { seconds, nanoseconds });
        assert_eq!(time(b"2272147200.000000001"), at(2272147200, 1));
        assert_eq!(time(b"-1.25"), at(-2, 750_000_000));
        assert_eq!(time(b"-3"), at(-3, 0));
        assert_eq!(time(b"1.1234567899"), at(1, 123_456_789));
        for bad in [&b""[..], b".5", b"1.x", b"--1", b"+1", b"99999999999999999999"] {
            assert!(time(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn records_of_wrong_shape_are_refused() {
        for bad in [
            &b"x"[..],
            b"5 a=b",
            b"6 a=b\n7",
            b"3 \n",
            b"99 a=b\n",
            b"6 =bc\n",
            b"0 a=b\n",
            b"18446744073709551616 a=b\n",
        ] {
            assert!(Records::parse(bad).is_err(), "{:?}", String::from_utf8_lossy(bad));
        }
        assert!(Records::parse(b"6 a=b\n").is_ok());
        assert!(Records::parse(b"").is_ok());
    }
}
