//! Rows of the index as bytes. Each begins with a check of its own, so that a flipped bit is noticed
//! wherever the database underneath would hand it out as it is.
//!
//! ```text
//! row     = check (8 bytes) payload
//! check   = the first 8 bytes of BLAKE3(table name, 0, key, payload)
//! action  = digest (32) size (8)
//! range   = size, modified, changed, born (8 each) probe (16) digest (32) mark (1)
//! sums    = checksum of a block (16), as often as there are blocks
//! external =  device, inode, size, offset, length, modified, changed, born (8 each) probe (16) path
//! ```
//!
//! Numbers are little-endian, but big-endian in keys, so that they sort. Rows written before files were probed
//! end before the digest or the path does, and count as missing.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::range::{ExternalRange, FileRange, RangeContent};
use crate::digest::{Checksums, Digest};
use crate::identity::Identity;

const CHECK: usize = 8;

/// A payload with its check in front.
pub(super) fn seal(table: &str, key: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut row = check(table, key, payload).to_vec();
    row.extend_from_slice(payload);
    row
}

/// A row's payload; `None` if the row is not what was written under this key.
pub(super) fn unseal<'r>(table: &str, key: &[u8], row: &'r [u8]) -> Option<&'r [u8]> {
    let (found, payload) = row.split_at_checked(CHECK)?;
    (found == check(table, key, payload)).then_some(payload)
}

fn check(table: &str, key: &[u8], payload: &[u8]) -> [u8; CHECK] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(table.as_bytes()).update(&[0]).update(key).update(payload);
    hasher.finalize().as_bytes()[..CHECK].try_into().expect("a hash is longer")
}

pub(super) fn action(digest: &Digest, n_bytes: u64) -> Vec<u8> {
    [&digest.0[..], &n_bytes.to_le_bytes()].concat()
}

pub(super) fn read_action(payload: &[u8]) -> Option<(Digest, u64)> {
    let (digest, n_bytes) = payload.split_first_chunk::<32>()?;
    Some((Digest(*digest), u64::from_le_bytes(n_bytes.try_into().ok()?)))
}

/// Ranges are found by where they are; the file's stamps are in the row, so that a new state of the
/// file replaces the old one.
pub(super) fn range_key(range: &FileRange) -> [u8; 32] {
    let Identity { device, inode, .. } = range.identity;
    let numbers = [device, inode, range.offset, range.n_bytes].map(u64::to_be_bytes);
    *numbers.as_flattened().first_chunk().expect("four numbers have 32 bytes")
}

/// The first and the last key that a range of a file may have.
pub(super) fn range_keys_of(file: &Identity) -> ([u8; 32], [u8; 32]) {
    let key = |offset, n_bytes| range_key(&FileRange { identity: *file, offset, n_bytes });
    (key(0, 0), key(u64::MAX, u64::MAX))
}

pub(super) fn range(identity: &Identity, content: &RangeContent) -> Vec<u8> {
    let RangeContent { digest, mark } = content;
    [&state(identity)[..], &digest.0, &[u8::from(*mark)]].concat()
}

/// What tells a file's states apart, beside where it is.
fn state(identity: &Identity) -> Vec<u8> {
    let Identity { device: _, inode: _, size, modified, changed, born, probe } = identity;
    let stamps = [modified, changed, born].map(|stamp| stamp.to_le_bytes());
    [&size.to_le_bytes()[..], stamps.as_flattened(), &probe.to_le_bytes()].concat()
}

/// What a range held, if the row is about the file in this state.
pub(super) fn read_range(payload: &[u8], now: &Identity) -> Option<RangeContent> {
    let (then, rest) = payload.split_first_chunk::<48>()?;
    let (digest, mark) = rest.split_first_chunk::<32>()?;
    let mark = match mark {
        [0] => false,
        [1] => true,
        _ => return None,
    };
    (then[..] == state(now)).then_some(RangeContent { digest: Digest(*digest), mark })
}

pub(super) fn checksums(Checksums(sums): &Checksums) -> Vec<u8> {
    sums.iter().flat_map(|sum| sum.to_le_bytes()).collect()
}

pub(super) fn read_checksums(payload: &[u8]) -> Option<Checksums> {
    let (sums, rest) = payload.as_chunks::<16>();
    rest.is_empty().then(|| Checksums(sums.iter().map(|sum| u128::from_le_bytes(*sum)).collect()))
}

pub(super) fn external(external: &ExternalRange) -> Vec<u8> {
    let ExternalRange { path, range: FileRange { identity, offset, n_bytes } } = external;
    let Identity { device, inode, size, modified, changed, born, probe } = identity;
    let mut payload = Vec::new();
    for number in [device, inode, size, offset, n_bytes] {
        payload.extend_from_slice(&number.to_le_bytes());
    }
    for stamp in [modified, changed, born] {
        payload.extend_from_slice(&stamp.to_le_bytes());
    }
    payload.extend_from_slice(&probe.to_le_bytes());
    payload.extend_from_slice(path.as_os_str().as_bytes());
    payload
}

pub(super) fn read_external(payload: &[u8]) -> Option<ExternalRange> {
    let (numbers, rest) = payload.split_first_chunk::<64>()?;
    let (probe, path) = rest.split_first_chunk::<16>()?;
    let bytes = |i: usize| numbers[i * 8..(i + 1) * 8].try_into().expect("eight bytes");
    let identity = Identity {
        device: u64::from_le_bytes(bytes(0)),
        inode: u64::from_le_bytes(bytes(1)),
        size: u64::from_le_bytes(bytes(2)),
        modified: i64::from_le_bytes(bytes(5)),
        changed: i64::from_le_bytes(bytes(6)),
        born: i64::from_le_bytes(bytes(7)),
        probe: u128::from_le_bytes(*probe),
    };
    let (offset, n_bytes) = (u64::from_le_bytes(bytes(3)), u64::from_le_bytes(bytes(4)));
    let path = PathBuf::from(OsStr::from_bytes(path));
    path.is_absolute().then_some(ExternalRange { path, range: FileRange { identity, offset, n_bytes } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_with_any_bit_flipped_is_no_row() {
        let row = seal("t", b"key", b"payload");
        assert_eq!(unseal("t", b"key", &row), Some(&b"payload"[..]));
        for bit in 0..row.len() * 8 {
            let mut flipped = row.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(unseal("t", b"key", &flipped), None);
        }
        assert_eq!(unseal("t", b"kez", &row), None);
        assert_eq!(unseal("u", b"key", &row), None);
        assert_eq!(unseal("t", b"key", &row[..7]), None);
    }

    #[test]
    fn external_ranges_come_back() {
        let identity = Identity {
            device: 1,
            inode: 2,
            size: 3,
            modified: -4,
            changed: 5,
            born: 8,
            probe: u128::MAX - 9,
        };
        let range = FileRange { identity, offset: 6, n_bytes: 7 };
        let there = ExternalRange { path: "/models/a b".into(), range };
        let row = external(&there);
        assert_eq!(read_external(&row), Some(there));
        assert_eq!(read_external(b"short"), None);
        assert_eq!(read_external(&row[..row.len() - "/models/a b".len()]), None);
    }
}
